//! What is written down about a sandbox, and whether it is still true.
//!
//! A process is named by its id, when it started and which pid namespace it lives in, so that a
//! recycled process id is never mistaken for the sandbox. Anybody who can read `/proc` can
//! check; no process needs to remember.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rclaude_types::Resources;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::cgroup::Placement;
use crate::provider::ReadOnlyBind;

/// `spec.json`: what the supervisor needs to start the sandbox, now or again.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredSpec {
    /// The template's skeleton.
    pub skeleton: PathBuf,
    /// Directories of the host the template shows read-only, at the same path inside.
    pub system: Vec<PathBuf>,
    pub layers: Vec<PathBuf>,
    pub binds: Vec<ReadOnlyBind>,
    pub resources: Resources,
    pub agentd: PathBuf,
    pub token: Secret,
    pub allow_root: bool,
}

/// Text that does not show in debug output.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// `state.json`: the last start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredState {
    pub process: ProcessIdentity,
    /// Which range of the host's user ids it runs under; see `supervisor::idmap`.
    pub slot: u32,
    pub cgroups: Placement,
    /// Whether the kernel redirects all its TCP to one port.
    pub redirect: bool,
    /// Whether all of it was built, and looked at. One that is not was cut short, with its
    /// supervisor, before anybody was told of it.
    #[serde(default = "yes")]
    pub whole: bool,
    /// How it ended, once it has: the exit status as `wait` reports it.
    pub ended: Option<i32>,
}

/// Records of earlier versions do not say.
fn yes() -> bool {
    true
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessIdentity {
    pub pid: i32,
    /// Ticks between boot and its start (`/proc/<pid>/stat`, field 22).
    pub started: u64,
    /// Inode of its pid namespace.
    pub namespace: u64,
    /// Which boot of the host it was.
    pub boot: String,
}

impl ProcessIdentity {
    /// Reads a running process's identity.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let (_, started) = stat(pid)?;
        Ok(Self { pid, started, namespace: pid_namespace(pid)?, boot: boot_id()? })
    }

    /// Whether this very process still runs. One that ended and waits to be reaped does not.
    pub(super) fn is_alive(&self) -> bool {
        let Ok((state, started)) = stat(self.pid) else { return false };
        started == self.started
            && !matches!(state, 'Z' | 'X')
            && boot_id().is_ok_and(|boot| boot == self.boot)
            // Unreadable while the process is on its way out.
            && pid_namespace(self.pid).is_ok_and(|namespace| namespace == self.namespace)
    }
}

/// State letter and start time.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may itself hold anything.
    let rest = text.rsplit_once(") ").map(|(_, rest)| rest);
    let parse = |rest: &str| {
        let mut fields = rest.split(' ');
        Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
    };
    rest.and_then(parse).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn pid_namespace(pid: i32) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/pid")).map(|namespace| namespace.ino())
}

/// Which boot of the host this is.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads one of the JSON files. Absent and torn (the host lost power while it was written) are
/// both `None`: in neither case was the step it stands for completed.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one of the JSON files, readable by its owner only. One `write` call: whoever is killed
/// here leaves the old file, none, or all of it.
pub(super) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let old = file.metadata()?.len();
    file.write_all(&bytes)?;
    if old > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_another_start_or_namespace_is_not() {
        let me = ProcessIdentity::of(std::process::id().try_into().unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessIdentity { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!ProcessIdentity { namespace: me.namespace + 1, ..me.clone() }.is_alive());
        assert!(!ProcessIdentity { boot: String::new(), ..me }.is_alive());
    }

    #[test]
    fn a_torn_record_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spec.json");
        assert!(read::<u32>(&path).unwrap().is_none());
        write(&path, &[1, 2, 3, 4]).unwrap();
        write(&path, &[5]).unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), Some(vec![5]));
        fs::write(&path, "[5").unwrap();
        assert_eq!(read::<Vec<u32>>(&path).unwrap(), None);
    }
}
