//! Opening things by path.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

/// Opens by an absolute path, the kernel's magic links (`/proc/self/fd/…`) refused.
pub fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_at(CWD, path, flags, ResolveFlags::empty())
}

/// Opens by a path below `directory`, with `how` on top of what always holds: magic links are
/// refused.
pub fn open_at(
    directory: impl AsFd,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> io::Result<OwnedFd> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives EAGAIN where a rename elsewhere kept it from being sure; asking again is
    // the answer it expects.
    for _ in 0..16 {
        match openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            opened => return Ok(opened?),
        }
    }
    Err(rustix::io::Errno::AGAIN.into())
}

/// The directory that holds `path`, open, and the name in it.
pub fn parent(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (directory, name) = split(path)?;
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok((directory, name.into()))
}

/// A path taken apart; one that names nothing of its own (`/`, `…/..`) is refused.
pub fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_owned())),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it names no entry of a directory, but the root or a way up",
        )),
    }
}
