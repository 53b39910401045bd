//! Opening things by path.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

/// Opens by an absolute path, magic links refused.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_at(CWD, path, flags, ResolveFlags::NO_MAGICLINKS)
}

/// Opens by a path below `directory`, with `how` on top of what always holds.
pub(super) fn open_at(
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

/// Opens a regular file to be read, with its size.
pub(crate) fn open_file(path: &Path) -> io::Result<(File, u64)> {
    // A pipe without a writer must not hold the thread.
    let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::Directory => Err(rustix::io::Errno::ISDIR.into()),
        _ => Err(rustix::io::Errno::INVAL.into()),
    }
}

/// The directory that holds `path`, open, and the name in it.
pub(super) fn parent(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (directory, name) = split(path)?;
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
    Ok((directory, name.into()))
}

/// A path taken apart; one that names nothing of its own (`/`, `…/..`) is refused.
pub(super) fn split(path: &Path) -> io::Result<(&Path, OsString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_owned())),
        _ => Err(rustix::io::Errno::INVAL.into()),
    }
}
