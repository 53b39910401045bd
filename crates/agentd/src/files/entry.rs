//! What is there.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rclaude_types::{FileEntry, FileKind, FileList, Timestamp};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, readlinkat, statat};

use super::open::{open, parent};

/// The most entries of a directory that are listed.
const MAX_ENTRIES: usize = 50_000;

/// What is at `path`; a link itself, not what it leads to.
pub(crate) fn stat(path: &Path) -> io::Result<FileEntry> {
    if path.file_name().is_none() {
        let directory = open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        return entry(directory, Path::new("."), path);
    }
    let (directory, name) = parent(path)?;
    entry(directory, &name, path)
}

/// What is in a directory, by name.
pub(crate) fn list(path: &Path) -> io::Result<FileList> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut data = Vec::new();
    for found in Dir::read_from(&directory)? {
        let found = found?;
        let name = PathBuf::from(os(found.file_name()));
        if name.as_os_str() == "." || name.as_os_str() == ".." {
            continue;
        }
        if data.len() == MAX_ENTRIES {
            return Err(rustix::io::Errno::TOOBIG.into());
        }
        match entry(&directory, &name, &path.join(&name)) {
            Ok(entry) => data.push(entry),
            // Removed since it was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    data.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(FileList { data })
}

/// What is at `name` in `directory`, told as `shown`.
fn entry(directory: impl AsFd, name: &Path, shown: &Path) -> io::Result<FileEntry> {
    let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = kind(&stat);
    let target = match kind {
        FileKind::Symlink => {
            let target = readlinkat(&directory, name, Vec::new())?;
            Some(os(&target).to_string_lossy().into_owned())
        }
        _ => None,
    };
    Ok(FileEntry {
        path: shown.to_string_lossy().into_owned(),
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_at: modified_at(&stat),
        target,
    })
}

fn kind(stat: &Stat) -> FileKind {
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

fn os(name: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}
