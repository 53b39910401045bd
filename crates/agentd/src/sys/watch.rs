//! Waiting for a descriptor in the loop.
#![expect(unsafe_code, reason = "tokio asks for a promise about the descriptor's life")]

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a non-blocking descriptor to be waited for.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stays open, under the same number, for as long as the `AsyncFd` that
    // now owns it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
