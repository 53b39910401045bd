//! How much room a tree takes.

use std::{collections::HashSet, ffi::CString, io, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, FileType, statat},
    io::Errno,
};

use super::{
    ladder::{Ladder, open_directory},
    walk::names,
};

/// Bytes on disk of what is under `top`, each file counted once. What comes and goes meanwhile
/// may or may not be counted.
pub(super) fn bytes_under(top: OwnedFd) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let mut buffer = Vec::with_capacity(1 << 15);
    let mut seen = HashSet::new();
    let mut ladder = Ladder::default();
    let mut waiting: Vec<Vec<CString>> = vec![names(&top, &mut buffer)?];
    ladder.push(top)?;
    let mut blocks = 0;
    while let Some(left) = waiting.last_mut() {
        let Some(name) = left.pop() else {
            waiting.pop();
            ladder.pop()?;
            continue;
        };
        let stat = match statat(ladder.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::ACCESS) => continue,
            other => other?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_dir || stat.st_nlink < 2 || seen.insert(stat.st_ino) {
            blocks += stat.st_blocks.cast_unsigned();
        }
        if is_dir && let Ok(directory) = open_directory(ladder.here(), &name) {
            waiting.push(names(&directory, &mut buffer)?);
            ladder.push(directory)?;
        }
    }
    Ok(blocks * BLOCK)
}
