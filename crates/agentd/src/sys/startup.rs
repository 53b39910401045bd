//! Making the process fit to be PID 1 among hostile neighbours.
#![expect(unsafe_code, reason = "signal masks and signalfd have no safe wrapper")]

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    fs::{Mode, OFlags},
    process,
};

/// Readable when a child ended or the daemon is asked to end.
pub(crate) type Signals = OwnedFd;

/// Takes the next signal that came, if one did.
pub(crate) fn next(signals: &Signals) -> io::Result<u32> {
    let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
    rustix::io::read(signals, &mut bytes)?;
    // `ssi_signo` is the first field.
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Called once, before there is a second thread.
pub(crate) fn prepare() -> io::Result<Signals> {
    // Descriptors 0 to 2 must be open, or what is opened next would be taken for them.
    while rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?.into_kept() <= 2 {}
    process::umask(Mode::from_raw_mode(0o022));
    process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable)?;
    if !process::getpid().is_init() {
        // As PID 1 orphans come by themselves.
        process::set_child_subreaper(Some(process::getpid()))?;
    }
    if process::geteuid().is_root() {
        // Refused in a user namespace that maps one id, where there are no groups to lose.
        // SAFETY: an empty list is given by its length alone.
        let _refused = unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) };
    }
    signals()
}

/// Blocks the signals the daemon lives by and has them delivered as something to read: no code
/// ever runs in a signal handler.
fn signals() -> io::Result<Signals> {
    // SAFETY: the set is made by `sigemptyset` before it is read, every pointer is to a live
    // local, and the descriptor is checked before it is owned.
    unsafe {
        let mut set = mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Keeping a low descriptor open for good, and closing a higher one.
trait IntoKept {
    fn into_kept(self) -> i32;
}

impl IntoKept for OwnedFd {
    fn into_kept(self) -> i32 {
        let number = self.as_raw_fd();
        if number <= 2 {
            mem::forget(self);
        }
        number
    }
}
