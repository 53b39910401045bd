//! What several benchmarks want.

use std::{fs, path::Path, time::Duration};

use rclaude_sandbox::provider::{Bootstrap, SandboxSpec};
use rclaude_types::{Resources, SandboxId};

/// The token that sandboxes' daemons are given.
pub(crate) const TOKEN: &str = "token";

/// The smallest wish for a sandbox.
pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::generate(),
        template: "host".to_owned(),
        resources: Resources::default(),
        bootstrap: Bootstrap { token: TOKEN.to_owned() },
        layers: Vec::new(),
        stack: Vec::new(),
        binds: Vec::new(),
        files: Vec::new(),
        allow_root: false,
    }
}

/// Median and ninetieth percentile, in milliseconds.
pub(crate) fn show(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e3;
    let digits = if at(50) < 0.1 { 3 } else { 2 };
    format!("{:.digits$} ({:.digits$})", at(50), at(90))
}

/// A root made of the host's `/usr`, for engines that want a directory of their own.
pub(crate) fn root(dir: &Path) {
    for name in ["usr", "proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(dir.join(name)).expect("directories can be made");
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(Path::new("usr").join(name), dir.join(name)).expect("links");
    }
}

/// Leaves the host's mounts, and in the copy takes away the version 2 tree of a host that has
/// both: some engines refuse such a host.
pub(crate) fn hide_the_unified_tree() {
    // SAFETY: system calls on constants. The namespace is this thread's alone, and what it starts
    // inherits it.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) == 0 {
            let (root, none) = (c"/".as_ptr(), std::ptr::null());
            libc::mount(none, root, none, libc::MS_REC | libc::MS_PRIVATE, none.cast());
            libc::umount2(c"/sys/fs/cgroup/unified".as_ptr(), libc::MNT_DETACH);
        }
    }
}
