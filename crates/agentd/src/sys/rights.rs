//! File work in the rights of another user.
//!
//! The kernel checks files against a thread's own file-system ids. Setting them away from root
//! also takes the capabilities that override file permissions out of the thread's effective set,
//! and setting them back returns them: exactly the switch a daemon needs that must not be fooled
//! into reaching, by a link or a race, what its caller could not reach.
#![expect(unsafe_code, reason = "setfsuid and setfsgid have no safe wrapper")]

use std::io;

/// A uid and gid to do file work as, or the daemon's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Whatever the daemon has.
    Own,
    /// This user's, without groups.
    Of(u32, u32),
}

/// Runs `work` with file rights. For threads that do only file work.
pub(crate) fn with<T>(rights: Rights, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let Rights::Of(uid, gid) = rights else { return work() };
    let _restore = Restore;
    set(uid, gid)?;
    work()
}

/// Gives the thread its own rights back, also if the work panics.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        if set(0, 0).is_err() {
            // A thread of a pool with the wrong rights would serve the next caller wrongly.
            std::process::abort();
        }
    }
}

fn set(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: system calls on plain numbers that change this thread's file-system ids only. They
    // report no errors; asking for an impossible id reads back what is set. The bare calls are
    // used because the C library's may act on all threads.
    let (is_uid, is_gid) = unsafe {
        if uid == 0 {
            libc::syscall(libc::SYS_setfsuid, uid);
            libc::syscall(libc::SYS_setfsgid, gid);
        } else {
            libc::syscall(libc::SYS_setfsgid, gid);
            libc::syscall(libc::SYS_setfsuid, uid);
        }
        (libc::syscall(libc::SYS_setfsuid, u32::MAX), libc::syscall(libc::SYS_setfsgid, u32::MAX))
    };
    if is_uid == i64::from(uid) && is_gid == i64::from(gid) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}
