//! Looking at a started sandbox from outside: is it what was meant?
//!
//! A wall that was forgotten, or that some kernel quietly did not build, shows here and not in
//! somebody's incident report. What differs is killed.

use std::{fs, io};

use super::{
    super::protocol::{Failure, FailureClass, While as _},
    child::KEPT_CAPABILITIES,
    idmap::Mapping,
};

/// Checks the walls around a sandbox's first process.
pub(super) fn verify(pid: i32, mapping: Mapping) -> Result<(), Failure> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
    let status = read("status").during("look at the started sandbox")?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let capabilities = |name| field(name).and_then(|text| u64::from_str_radix(text, 16).ok());
    let kept = match mapping {
        Mapping::Slot(_) => KEPT_CAPABILITIES,
        Mapping::Single => 0,
    };
    let table = read("uid_map").during("look at the started sandbox")?;
    let same = |left: &str, right: &str| left.split_whitespace().eq(right.split_whitespace());
    let checks = [
        ("Seccomp", field("Seccomp") == Some("2")),
        ("NoNewPrivs", field("NoNewPrivs") == Some("1")),
        ("CapBnd", capabilities("CapBnd") == Some(KEPT_CAPABILITIES)),
        ("CapEff", capabilities("CapEff") == Some(kept)),
        ("CapAmb", capabilities("CapAmb") == Some(0)),
        ("uid_map", same(&table, &mapping.table())),
        ("namespaces", has_own_namespaces(pid).during("look at the started sandbox")?),
    ];
    match checks.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(Failure::new(
            FailureClass::Unexpected,
            format!("the started sandbox is not walled in as meant: {what} differs; it was killed"),
        )),
    }
}

fn has_own_namespaces(pid: i32) -> io::Result<bool> {
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        if fs::read_link(format!("/proc/{pid}/ns/{kind}"))?
            == fs::read_link(format!("/proc/self/ns/{kind}"))?
        {
            return Ok(false);
        }
    }
    Ok(true)
}
