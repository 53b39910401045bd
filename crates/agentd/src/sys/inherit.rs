//! Descriptors the launcher leaves open for the daemon.
#![expect(unsafe_code, reason = "an inherited descriptor is a bare number")]

use std::{
    fs::File,
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use rustix::io::{FdFlags, fcntl_setfd};

/// Takes over an inherited listening socket.
pub(crate) fn listener(number: i32) -> io::Result<UnixListener> {
    take(number).map(UnixListener::from)
}

/// Takes over an inherited file or pipe.
pub(crate) fn file(number: i32) -> io::Result<File> {
    take(number).map(File::from)
}

fn take(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: called once for each number at the very start, before anything else is opened, so
    // the descriptor is either the launcher's gift or not open; the next call tells which.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl_setfd(&fd, FdFlags::CLOEXEC) {
        Ok(()) => Ok(fd),
        Err(error) => {
            // Not open: it must not be closed either.
            std::mem::forget(fd);
            Err(error.into())
        }
    }
}
