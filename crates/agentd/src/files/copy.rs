//! Copying within the sandbox.
//!
//! A copy is made under a passing name and renamed, so a tree too is there whole or not at all.
//! Where the file system can share the blocks of two files it does (reflink), elsewhere the kernel
//! copies, hole by hole: a sparse file stays sparse.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rclaude_tree::{MAX_DEPTH, open_at, parent, temporary};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps,
        UTIME_OMIT, copy_file_range, fchmod, fstat, ftruncate, futimens, ioctl_ficlone, mkdirat,
        readlinkat, renameat, seek, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    tree::remove_at,
    write::{Condition, place},
};

/// Copies what is at `from` to `to`, with modes and times; a directory only if `recursive`. A file
/// that is there is replaced, a directory is not.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    recursive: bool,
    condition: &Condition,
) -> io::Result<()> {
    let (from, from_name) = parent(from)?;
    let (to, to_name) = parent(to)?;
    let stat = statat(&from, &from_name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if is_directory && !recursive {
        return Err(Errno::ISDIR.into());
    }
    if let Ok(there) = statat(&to, &to_name, AtFlags::SYMLINK_NOFOLLOW)
        && (FileType::from_raw_mode(there.st_mode) == FileType::Directory) != is_directory
    {
        return Err(if is_directory { Errno::NOTDIR } else { Errno::ISDIR }.into());
    }
    // The passing name is taken by a file; a directory or a link then stands in its place.
    let (_claim, passing) = temporary(&to)?;
    let copier = Copier { made: None };
    let copied = copier
        .copy(from.as_fd(), &from_name, to.as_fd(), &passing, 0)
        .and_then(|()| place(&to, &passing, &to, &to_name, condition));
    if copied.is_err() {
        // What is left says more than what could not be removed.
        let _left = remove_at(to.as_fd(), &passing, true);
    }
    copied
}

struct Copier {
    /// The outermost directory of the copy: a tree that is copied into itself must not copy it.
    made: Option<(u64, u64)>,
}

impl Copier {
    fn copy(
        mut self,
        from: BorrowedFd<'_>,
        name: &Path,
        to: BorrowedFd<'_>,
        passing: &Path,
        depth: usize,
    ) -> io::Result<()> {
        unlinkat(to, passing, AtFlags::empty())?;
        self.entry(from, name, to, passing, depth)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        name: &Path,
        to: BorrowedFd<'_>,
        as_name: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let how = ResolveFlags::BENEATH;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let inner = open_at(from, name, flags, how)?;
                if self.made == Some(identity(&fstat(&inner)?)) {
                    return Ok(());
                }
                mkdirat(to, as_name, Mode::RWXU)?;
                let made = open_at(to, as_name, flags, how)?;
                self.made.get_or_insert(identity(&fstat(&made)?));
                self.directory(&inner, &made, depth)?;
                dress(&made, &stat)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let source = File::from(open_at(from, name, flags, how)?);
                let (target, passing) = temporary(to)?;
                content(&source, &target)?;
                dress(&target, &stat)?;
                Ok(renameat(to, passing, to, as_name)?)
            }
            FileType::Symlink => {
                symlinkat(&*readlinkat(from, name, Vec::new())?, to, as_name)?;
                Ok(utimensat(to, as_name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            // Sockets, pipes and devices are not content.
            _ if depth > 0 => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is neither file, directory nor link",
            )),
        }
    }

    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
        let mut names = Vec::new();
        for found in Dir::read_from(from)? {
            let found = found?;
            let name = found.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
            }
        }
        for name in names {
            match self.entry(from.as_fd(), &name, to.as_fd(), &name, depth + 1) {
                // Removed since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Gives a copy the mode and time of what it is a copy of. Setuid and setgid stay behind: who
/// copies may be another.
fn dress(copy: impl AsFd, stat: &Stat) -> io::Result<()> {
    fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o1777))?;
    Ok(futimens(copy, &times(stat))?)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
        },
    }
}

fn content(from: &File, to: &File) -> io::Result<()> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(fstat(from)?.st_size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let mut end = seek(from, SeekFrom::Hole(data))?.min(size);
        at = data;
        while at < end {
            let (mut source, mut target) = (at, at);
            let length = usize::try_from((end - at).min(1 << 30)).unwrap_or(1 << 30);
            match copy_file_range(from, Some(&mut source), to, Some(&mut target), length)? {
                // Cut since it was looked at.
                0 => end = at,
                copied => at += copied as u64,
            }
        }
        at = at.max(end);
        if at == data {
            break;
        }
    }
    Ok(ftruncate(to, size)?)
}
