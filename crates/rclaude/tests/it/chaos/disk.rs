//! A small disk of a run's own, so that it can be full without harm to anybody else.
//!
//! It is a file system in memory, mounted in a mount namespace that only the run's threads and the
//! processes they start are in: whatever becomes of them, it goes with the last of them.

use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

/// Room for a few sandboxes, and soon filled.
const OPTIONS: &std::ffi::CStr = c"size=256m,mode=755";

/// Does `work` on a thread of its own with such a disk, or without one where this process may not
/// mount.
pub(super) fn with_small_disk<T: Send + 'static>(
    work: impl FnOnce(Option<&Path>) -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        if !enter_namespace() {
            return work(None);
        }
        let dir = tempfile::tempdir().unwrap();
        mount("chaos", dir.path(), "tmpfs", MountFlags::empty(), Some(OPTIONS)).unwrap();
        let mounted = Mounted(dir);
        work(Some(mounted.0.path()))
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct Mounted(tempfile::TempDir);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

/// Puts this thread, and those it will start, in a mount namespace of their own; whether it may.
#[expect(unsafe_code, reason = "there is no safe way to leave a namespace")]
fn enter_namespace() -> bool {
    let flags = rustix::thread::UnshareFlags::NEWNS;
    // SAFETY: this thread alone gets another view of the same mounts, under the same paths; no
    // file descriptor changes hands.
    let left = unsafe { rustix::thread::unshare_unsafe(flags) };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    left.is_ok() && mount_change("/", private).is_ok()
}
