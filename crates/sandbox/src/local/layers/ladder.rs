//! The open directories on the way down a tree.
//!
//! A tree may be deeper than a process may have files open, or than any path is long. Only the
//! lowest rungs stay open; a higher one is reached again through `..`, and only if that is still
//! the very directory one came from: what a sandbox moves elsewhere meanwhile must not lead there.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::fs::{Mode, OFlags};

/// How many stay open.
const OPEN: usize = 64;

/// How a directory of a tree that others write is opened: itself, whatever its name is now, and
/// without a trace on it.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOATIME);

/// Opens the directory `name` in `dir`.
pub(super) fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())
}

#[derive(Debug)]
struct Rung {
    fd: Option<OwnedFd>,
    identity: (u64, u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ladder(Vec<Rung>);

impl Ladder {
    /// The lowest directory; there must be one.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        let rung = self.0.last().expect("a directory was pushed");
        rung.fd.as_ref().expect("the lowest rung is open").as_fd()
    }

    /// Goes down into a directory that was opened from [`here`](Self::here).
    pub(super) fn push(&mut self, fd: OwnedFd) -> io::Result<()> {
        let identity = identity(&fd)?;
        self.push_known(fd, identity);
        Ok(())
    }

    /// The same, with the device and inode that it was found to have.
    pub(super) fn push_known(&mut self, fd: OwnedFd, identity: (u64, u64)) {
        self.0.push(Rung { fd: Some(fd), identity });
        if let Some(far) = self.0.len().checked_sub(OPEN + 1)
            && far > 0
        {
            self.0[far].fd = None;
        }
    }

    /// Goes up; returns the directory that was left.
    pub(super) fn pop(&mut self) -> io::Result<Option<OwnedFd>> {
        let left = self.0.pop().and_then(|rung| rung.fd);
        if let Some(rung) = self.0.last_mut()
            && let (None, Some(left)) = (&rung.fd, &left)
        {
            let above = open_directory(left.as_fd(), c"..")?;
            if identity(&above)? != rung.identity {
                return Err(io::Error::other("a directory was moved while it was walked"));
            }
            rung.fd = Some(above);
        }
        Ok(left)
    }
}

fn identity(fd: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
