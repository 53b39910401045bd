//! Reading files.

use std::{fs::File, io, path::Path};

use rclaude_tree::open;
use rustix::{
    fs::{FileType, OFlags, fstat},
    io::Errno,
};

use super::entry::etag;

/// A file open to be read, as it was then.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) size: u64,
    pub(crate) etag: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, u64),
}

/// Opens a regular file.
pub(crate) fn open_file(path: &Path) -> io::Result<Opened> {
    // A pipe without a writer must not hold the thread.
    let file = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(Opened {
            file: File::from(file),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            etag: etag(&stat),
            mode: stat.st_mode & 0o7777,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
        }),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}
