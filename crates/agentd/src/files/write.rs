//! Writing a file so that it is there wholly or not at all; and writing to a part of one.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rclaude_tree::{make_directory, split, temporary};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, fsync, openat, renameat,
        renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::entry::etag;
use crate::sys::rights::{self, Rights};

/// One at a time puts a file in a place that must be as expected: of two who saw the same file
/// before, one comes first and the other is told. (What a process of the sandbox does in the
/// instant between look and rename, nobody can exclude.)
static PLACING: Mutex<()> = Mutex::new(());

/// What must be in a file's place for it to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Whatever is.
    None,
    /// A file with this tag, or any file (`*`).
    Match(String),
    /// Nothing at all.
    Absent,
}

/// The error for a condition that does not hold.
pub(crate) const CHANGED: i32 = libc::ESTALE;

impl Condition {
    fn check(&self, directory: &OwnedFd, name: &Path) -> io::Result<()> {
        let there = match (self, statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Self::None, _) => true,
            (Self::Match(wanted), Ok(stat)) => wanted == "*" || *wanted == etag(&stat),
            (Self::Absent, Err(Errno::NOENT)) => true,
            (Self::Match(_), Err(Errno::NOENT)) | (Self::Absent, Ok(_)) => false,
            (_, Err(error)) => return Err(error.into()),
        };
        if there { Ok(()) } else { Err(io::Error::from_raw_os_error(CHANGED)) }
    }
}

/// A file being written beside the place where it will stand. Dropped unfinished, it is removed.
pub(crate) struct NewFile {
    rights: Rights,
    directory: Option<OwnedFd>,
    temporary: PathBuf,
    name: PathBuf,
    condition: Condition,
    /// Where the bytes go.
    pub(crate) file: File,
}

impl NewFile {
    /// Begins a file for `path`; runs in `rights`, which are kept for cleaning up.
    pub(crate) fn begin(
        path: &Path,
        mode: Option<u32>,
        condition: Condition,
        rights: Rights,
    ) -> io::Result<Self> {
        let (above, name) = split(path)?;
        let directory = make_directory(above)?;
        // What cannot be is said before the bytes are sent.
        condition.check(&directory, Path::new(&name))?;
        let mode = match (mode, statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Some(mode), _) => mode,
            (None, Ok(old)) => match FileType::from_raw_mode(old.st_mode) {
                FileType::RegularFile => old.st_mode & 0o7777,
                FileType::Directory => return Err(Errno::ISDIR.into()),
                _ => 0o644,
            },
            (None, Err(_)) => 0o644,
        };
        let (file, temporary) = temporary(&directory)?;
        let new = Self {
            rights,
            directory: Some(directory),
            temporary,
            name: name.into(),
            condition,
            file,
        };
        // The owner can read it until then, which is who writes it.
        fchmod(&new.file, Mode::from_raw_mode(mode))?;
        Ok(new)
    }

    /// Puts the file in its place; runs in the rights it was begun with.
    pub(crate) fn finish(mut self, sync: bool) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if sync {
            fsync(&self.file)?;
        }
        place(directory, &self.temporary, directory, &self.name, &self.condition)?;
        self.directory = None;
        Ok(())
    }
}

/// Renames under a condition about what is replaced.
pub(super) fn place(
    from: &OwnedFd,
    from_name: &Path,
    to: &OwnedFd,
    to_name: &Path,
    condition: &Condition,
) -> io::Result<()> {
    match condition {
        Condition::None => Ok(renameat(from, from_name, to, to_name)?),
        Condition::Absent => {
            match renameat_with(from, from_name, to, to_name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => Err(io::Error::from_raw_os_error(CHANGED)),
                placed => Ok(placed?),
            }
        }
        Condition::Match(_) => {
            let _one = PLACING.lock().unwrap_or_else(PoisonError::into_inner);
            condition.check(to, to_name)?;
            Ok(renameat(from, from_name, to, to_name)?)
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        let temporary = std::mem::take(&mut self.temporary);
        let rights = self.rights;
        let remove = move || {
            // What cannot be removed was moved or removed by its owner.
            let _gone =
                rights::with(rights, || Ok(unlinkat(&directory, &temporary, AtFlags::empty())?));
        };
        match tokio::runtime::Handle::try_current() {
            // Dropped by a request that was given up, on the loop's thread, which keeps its
            // rights; or by a job, whose thread has them already and restores them after.
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// A file being written to where it stands.
pub(crate) struct Patch {
    pub(crate) file: File,
    /// Where the next byte goes; at the end, wherever that is then, if absent.
    pub(crate) at: Option<u64>,
}

impl Patch {
    /// Opens the file at `path`, or makes it with `mode`. Bytes go from `offset` on, which must
    /// not lie behind the file's end.
    pub(crate) fn begin(path: &Path, offset: Option<u64>, mode: Option<u32>) -> io::Result<Self> {
        let (above, name) = split(path)?;
        let directory = make_directory(above)?;
        let mut flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A pipe without a reader must not hold the thread.
        flags |= OFlags::NONBLOCK | OFlags::NOCTTY;
        if offset.is_none() {
            flags |= OFlags::APPEND;
        }
        let file = openat(&directory, &name, flags, Mode::from_raw_mode(mode.unwrap_or(0o644)))?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        if offset.is_some_and(|offset| offset > u64::try_from(stat.st_size).unwrap_or(0)) {
            return Err(io::Error::from_raw_os_error(CHANGED));
        }
        Ok(Self { file: File::from(file), at: offset })
    }

    /// Writes the next bytes.
    pub(crate) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        use std::{io::Write, os::unix::fs::FileExt};
        match &mut self.at {
            Some(at) => {
                self.file.write_all_at(data, *at)?;
                *at += data.len() as u64;
                Ok(())
            }
            None => self.file.write_all(data),
        }
    }
}
