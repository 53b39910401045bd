//! Making directories.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, mkdirat},
    io::Errno,
};

use crate::open::{open, open_at, split};

/// Makes a directory at an absolute path and those on the way, open to be read by all; one that
/// is there is fine.
pub fn make_directory(path: &Path) -> io::Result<OwnedFd> {
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
