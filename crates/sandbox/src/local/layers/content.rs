//! Copies of files' contents, kept in a draft under numbers until it is known where they belong.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags, SeekFrom, Stat},
    io::Errno,
};

use super::meta::{Mark, Meta};

/// A file's content and what belongs to it, at the moment of `mark`.
#[derive(Debug)]
struct Copy {
    mark: Mark,
    meta: Arc<Meta>,
    number: u64,
    /// Whether an equal mark in a later pass proves nothing.
    doubted: bool,
    /// In which pass it was made.
    pass: u32,
}

/// Contents that were copied.
#[derive(Debug)]
pub(super) struct Contents {
    dir: OwnedFd,
    copies: HashMap<u64, Copy>,
    numbers: u64,
    pass: u32,
}

/// A regular file as it was copied.
#[derive(Debug)]
pub(super) struct Copied {
    pub mark: Mark,
    pub meta: Arc<Meta>,
    pub number: u64,
}

impl Contents {
    /// Into `dir`, which is empty.
    pub(super) fn new(dir: OwnedFd) -> Self {
        Self { dir, copies: HashMap::new(), numbers: 0, pass: 0 }
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn begin_pass(&mut self) {
        self.pass += 1;
    }

    /// Copies the regular file `name`, unless that was done and nothing has changed since. `None`
    /// if it is no regular file any more. `doubted` says of a mark whether it proves nothing about
    /// what comes after this pass.
    pub(super) fn take(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        seen: &Mark,
        doubted: impl Fn(&Mark) -> bool,
    ) -> io::Result<Option<Copied>> {
        if let Some(copy) = self.copies.get(&seen.ino)
            && copy.mark == *seen
            && (copy.pass == self.pass || !copy.doubted)
        {
            let meta = Arc::clone(&copy.meta);
            return Ok(Some(Copied { mark: *seen, meta, number: copy.number }));
        }
        // What was a file when it was looked at may be anything now: a pipe, for instance, that
        // whoever opens it waits for.
        let flags = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC
            | OFlags::NOATIME;
        let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&source)?;
        let mark = Mark::of(&stat);
        if !mark.file_type().is_file() {
            return Ok(None);
        }
        let meta = Arc::new(Meta::read(&stat, &source)?);
        let number = self.numbers;
        self.numbers += 1;
        let target = create(self.dir(), number)?;
        copy_content(&source, &target, &stat)?;
        let (doubted, pass) = (doubted(&mark), self.pass);
        let copy = Copy { mark, meta: Arc::clone(&meta), number, doubted, pass };
        self.copies.insert(mark.ino, copy);
        Ok(Some(Copied { mark, meta, number }))
    }
}

/// Makes the file for a copy.
pub(super) fn create(dir: BorrowedFd<'_>, number: u64) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, numbered(number), flags, Mode::RUSR | Mode::WUSR)?)
}

/// What a copy is called in the draft.
pub(super) fn numbered(number: u64) -> CString {
    CString::new(number.to_string()).expect("digits only")
}

/// Smaller files are read and written at once: two calls where looking for holes takes four.
const SMALL: usize = 128 * 1024;

/// Copies as many bytes as `stat` says there are: by sharing blocks where the file system can,
/// and otherwise what is not holes.
pub(super) fn copy_content(source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> io::Result<()> {
    let size = stat.st_size.cast_unsigned();
    if size == 0 {
        return Ok(());
    }
    // Sharing has a price in the kernel's books, which for a small file is more than a copy's.
    if size > 4096 && share(source, target)? {
        // The file may have grown since it was looked at; the mark tells, and all of it is one
        // moment's.
        return Ok(());
    }
    let small = usize::try_from(size).ok().filter(|size| *size <= SMALL);
    if let Some(size) = small {
        let mut buffer = vec![0; size];
        let mut filled = 0;
        while filled < size {
            match rustix::io::pread(source, &mut buffer[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        return write_all(target, &buffer[..filled], 0);
    }
    let mut at = 0;
    while at < size {
        let begin = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(begin) if begin < size => begin,
            // Holes to the end.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(begin))?.min(size);
        copy_range(source, target, begin, end)?;
        at = end.max(begin + 1);
    }
    Ok(rustix::fs::ftruncate(target, size)?)
}

/// Has the copy share the original's blocks; `false` where that cannot be.
fn share(source: &OwnedFd, target: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::ioctl_ficlone(target, source) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, begin: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (begin, begin);
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            // Cut short meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {
                return copy_by_hand(source, target, from, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &OwnedFd, target: &OwnedFd, begin: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; SMALL];
    let mut at = begin;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(SMALL).min(SMALL);
        match rustix::io::pread(source, &mut buffer[..want], at)? {
            0 => break,
            read => {
                write_all(target, &buffer[..read], at)?;
                at += read as u64;
            }
        }
    }
    Ok(())
}

fn write_all(target: &OwnedFd, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::pwrite(target, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}
