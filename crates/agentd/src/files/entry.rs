//! What is there.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rclaude_tree::{open, parent};
use rclaude_types::{FileEntry, FileKind, Timestamp};
use rustix::fs::{AtFlags, CWD, FileType, OFlags, Stat, fstat, readlinkat, statat};

/// What is at `path`; a link itself, not what it leads to.
pub(crate) fn stat(path: &Path) -> io::Result<FileEntry> {
    if path.file_name().is_none() {
        let directory = open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        return Ok(describe(&fstat(&directory)?, None, path));
    }
    let (directory, name) = parent(path)?;
    entry(directory, &name, path)
}

/// What `path` leads to, under its real path.
pub(crate) fn followed(path: &Path) -> io::Result<FileEntry> {
    let there = open(path, OFlags::PATH)?;
    let real = readlinkat(CWD, format!("/proc/self/fd/{}", there.as_raw_fd()), Vec::new())?;
    Ok(describe(&fstat(&there)?, None, Path::new(OsStr::from_bytes(real.to_bytes()))))
}

/// What is at `name` in `directory`, told as `shown`.
pub(super) fn entry(directory: impl AsFd, name: &Path, shown: &Path) -> io::Result<FileEntry> {
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = match kind(&stat) {
        FileKind::Symlink => Some(readlinkat(&directory, name, Vec::new())?),
        _ => None,
    };
    Ok(describe(&stat, target.as_deref().map(|target| OsStr::from_bytes(target.to_bytes())), shown))
}

fn describe(stat: &Stat, target: Option<&OsStr>, shown: &Path) -> FileEntry {
    let (path, path_base64) = told(shown.as_os_str());
    let (target, target_base64) = target.map_or((None, None), |target| {
        let (text, exact) = told(target);
        (Some(text), exact)
    });
    FileEntry {
        path,
        path_base64,
        kind: kind(stat),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_at: modified_at(stat),
        modified_nanos: u16::try_from(stat.st_mtime_nsec % 1000).unwrap_or(0),
        etag: etag(stat),
        target,
        target_base64,
    }
}

/// A name as text, and exactly where text cannot say it.
pub(super) fn told(name: &OsStr) -> (String, Option<String>) {
    match name.to_str() {
        Some(text) => (text.to_owned(), None),
        None => {
            (name.to_string_lossy().into_owned(), Some(BASE64_STANDARD.encode(name.as_bytes())))
        }
    }
}

/// Names a file's content as it is now (RFC 9110, section 8.8.3, without its quotes).
pub(super) fn etag(stat: &Stat) -> String {
    let (inode, seconds, size) = (stat.st_ino, stat.st_mtime, stat.st_size);
    format!("{inode:x}-{seconds:x}.{:x}-{size:x}", stat.st_mtime_nsec)
}

pub(super) fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// The kernel keeps any time its user likes; what cannot be told is told as the nearest.
fn modified_at(stat: &Stat) -> Timestamp {
    let micros = i64::try_from(stat.st_mtime_nsec / 1000).unwrap_or(0);
    Timestamp::from_micros(stat.st_mtime.saturating_mul(1_000_000).saturating_add(micros))
}
