//! Files that have no name of their own yet.

use std::{fs::File, io, os::fd::AsFd, path::PathBuf};

use rustix::{
    fs::{Mode, OFlags, openat},
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

/// An empty file in `directory` that nobody else may read, and its passing name there. Rename it
/// into place once it is whole, or remove it.
pub fn temporary(directory: impl AsFd) -> io::Result<(File, PathBuf)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        // Chance, not a counter: what an ended process left must not be in the way.
        let mut random = [0; 8];
        getrandom(&mut random, GetRandomFlags::empty())?;
        let name = PathBuf::from(format!(".rclaude-{:016x}", u64::from_ne_bytes(random)));
        match openat(&directory, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(file) => return Ok((File::from(file), name)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
