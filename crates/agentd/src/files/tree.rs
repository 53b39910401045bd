//! Making, moving and removing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, mkdirat, renameat, unlinkat},
    io::Errno,
};

use super::open::{open, open_at, parent, split};

/// Makes a directory and those on the way; one that is there is fine.
pub(crate) fn make_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(path, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let (above, name) = split(path)?;
    let above = make_directory(above)?;
    match mkdirat(&above, &name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_at(&above, Path::new(&name), flags, ResolveFlags::empty())
}

/// Moves what is at `from` to `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let (from, from_name) = parent(from)?;
    let (to, to_name) = parent(to)?;
    Ok(renameat(from, from_name, to, to_name)?)
}

/// Removes a file or an empty directory, or all of a tree.
pub(crate) fn remove(path: &Path, recursive: bool) -> io::Result<()> {
    let (directory, name) = parent(path)?;
    remove_at(directory.as_fd(), &name, recursive)
}

fn remove_at(directory: BorrowedFd<'_>, name: &Path, recursive: bool) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return Ok(done?),
    }
    if recursive {
        empty(directory, name)?;
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// Removes all that is in a directory. Each level holds one descriptor, so a tree deeper than
/// there are descriptors is refused with what the kernel says.
fn empty(directory: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let inner = open_at(directory, name, flags, ResolveFlags::BENEATH)?;
    for found in Dir::read_from(&inner)? {
        let found = found?;
        let bytes = found.file_name().to_bytes();
        if bytes != b"." && bytes != b".." {
            let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
            remove_at(inner.as_fd(), Path::new(name), true)?;
        }
    }
    Ok(())
}
