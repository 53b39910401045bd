//! Making, moving and removing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use rclaude_tree::{open_at, parent};
use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, chmodat, mkdirat, unlinkat},
    io::Errno,
};

use super::write::{Condition, place};

/// Makes a directory; with `parents` those on the way too, and one that is there is fine.
pub(crate) fn make_directory(path: &Path, parents: bool, mode: Option<u32>) -> io::Result<()> {
    let made = if parents && path.file_name().is_none() {
        Err(Errno::EXIST)
    } else {
        if parents && let Some(above) = path.parent() {
            rclaude_tree::make_directory(above)?;
        }
        let (above, name) = parent(path)?;
        let made = mkdirat(&above, &name, Mode::from_raw_mode(0o755));
        if made.is_ok()
            && let Some(mode) = mode
        {
            // Exactly this mode, whatever the umask.
            chmodat(&above, &name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        made
    };
    match made {
        Err(Errno::EXIST) if parents => rclaude_tree::make_directory(path).map(drop),
        made => Ok(made?),
    }
}

/// Moves what is at `from` to `to`, under a condition about what is there.
pub(crate) fn rename(from: &Path, to: &Path, condition: &Condition) -> io::Result<()> {
    let (from, from_name) = parent(from)?;
    let (to, to_name) = parent(to)?;
    place(&from, &from_name, &to, &to_name, condition)
}

/// Removes a file or an empty directory, or all of a tree.
pub(crate) fn remove(path: &Path, recursive: bool) -> io::Result<()> {
    let (directory, name) = parent(path)?;
    remove_at(directory.as_fd(), &name, recursive)
}

pub(super) fn remove_at(directory: BorrowedFd<'_>, name: &Path, recursive: bool) -> io::Result<()> {
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
