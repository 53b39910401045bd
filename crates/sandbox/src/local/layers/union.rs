//! One tree laid over another, as an overlay would show them.
//!
//! The rules are overlayfs's, kept so that the result may itself lie over something: what is no
//! directory hides all below it, and so does an opaque directory; whiteouts and opaque flags stay.
//! A directory over something that was none becomes opaque, since merging stopped there. Only
//! where nothing below can show (in an opaque directory) whiteouts do not stay: overlayfs would
//! not know them for what they are.
//!
//! Layers never change, so a file in the result is another name of the layer's own where the file
//! system allows that; then nothing is copied, and removing the layer frees nothing twice.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat, statat},
    io::Errno,
};

use super::{
    super::{remove::remove_tree, sys::open_own},
    build::make_special,
    content::{copy_content, create, numbered},
    ladder::{Ladder, open_directory},
    meta::{Meta, is_whiteout},
    walk::names,
};

/// Lays trees over a tree of its own.
#[derive(Debug)]
pub(super) struct Union<'a> {
    /// For files that had to be copied and have more than one name.
    contents: BorrowedFd<'a>,
    copies: HashMap<(u64, u64), u64>,
    numbers: u64,
    buffer: Vec<u8>,
}

/// A directory being laid over another.
struct Frame {
    names: Vec<CString>,
    meta: Meta,
    /// Whether whatever lies below the target is hidden here.
    hidden: bool,
}

impl<'a> Union<'a> {
    pub(super) fn new(contents: BorrowedFd<'a>) -> Self {
        let copies = HashMap::new();
        Self { contents, copies, numbers: 0, buffer: Vec::with_capacity(1 << 15) }
    }

    /// Lays what is called `name` in `from` over what is called `target_name` in `into`, which
    /// nobody else uses. If there is nothing in `from`, nothing happens. `hidden` says that what
    /// will lie below the target does not show there.
    pub(super) fn lay(
        &mut self,
        hidden: bool,
        (from, name): (BorrowedFd<'_>, &CStr),
        (into, target_name): (BorrowedFd<'_>, &CStr),
    ) -> io::Result<()> {
        let (mut source, mut target) = (Ladder::default(), Ladder::default());
        let mut frames = Vec::new();
        source.push(from.try_clone_to_owned()?)?;
        target.push(into.try_clone_to_owned()?)?;
        frames.extend(self.entry(hidden, (&mut source, name), (&mut target, target_name))?);
        while let Some(frame) = frames.last_mut() {
            if let Some(name) = frame.names.pop() {
                let hidden = frame.hidden;
                let entered = self.entry(hidden, (&mut source, &name), (&mut target, &name))?;
                frames.extend(entered);
                continue;
            }
            source.pop()?;
            if let (Some(done), Some(frame)) = (target.pop()?, frames.pop()) {
                frame.meta.give_to(done)?;
            }
        }
        Ok(())
    }

    /// Lays one entry; of a directory, goes into it on both sides.
    fn entry(
        &mut self,
        hidden: bool,
        (source, from_name): (&mut Ladder, &CStr),
        (target, name): (&mut Ladder, &CStr),
    ) -> io::Result<Option<Frame>> {
        let Some(stat) = look(source.here(), from_name)? else { return Ok(None) };
        let below = look(target.here(), name)?;
        let below_is_dir = below.as_ref().is_some_and(is_dir);
        if !is_dir(&stat) {
            if below.is_some() {
                remove_at(target.here(), name)?;
            }
            if !(hidden && is_whiteout(&stat)) {
                self.place((source.here(), from_name), (target.here(), name), &stat)?;
            }
            return Ok(None);
        }
        let opened = open_directory(source.here(), from_name)?;
        let mut meta = Meta::read(&stat, &opened)?;
        let mut opaque = meta.is_opaque();
        if below_is_dir && !opaque {
            let merged = open_directory(target.here(), name)?;
            let below = Meta::read(&stat, &merged)?;
            opaque = below.is_opaque();
            if below.has_whiteouts() {
                meta.set_whiteouts();
            }
        } else if below.is_some() {
            remove_at(target.here(), name)?;
            opaque = true;
        }
        meta.set_opaque(opaque);
        match rustix::fs::mkdirat(target.here(), name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                rustix::fs::chmodat(target.here(), name, Mode::RWXU, AtFlags::empty())?;
            }
            other => other?,
        }
        let made = open_directory(target.here(), name)?;
        let names = names(&opened, &mut self.buffer)?;
        source.push(opened)?;
        target.push(made)?;
        Ok(Some(Frame { names, meta, hidden: hidden || opaque }))
    }

    /// Puts what is no directory in place.
    fn place(
        &mut self,
        (from, from_name): (BorrowedFd<'_>, &CStr),
        (into, name): (BorrowedFd<'_>, &CStr),
        stat: &Stat,
    ) -> io::Result<()> {
        match rustix::fs::linkat(from, from_name, into, name, AtFlags::empty()) {
            // Another file system or subvolume, or more names than a file can have.
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM) => {}
            other => return Ok(other?),
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.copy((from, from_name), (into, name), stat),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(from, from_name, Vec::new())?;
                rustix::fs::symlinkat(&to, into, name)?;
                Meta::of(stat).give_at(into, name)
            }
            kind => make_special(into, name, kind, stat.st_rdev, &Meta::of(stat)),
        }
    }

    fn copy(
        &mut self,
        (from, from_name): (BorrowedFd<'_>, &CStr),
        (into, name): (BorrowedFd<'_>, &CStr),
        stat: &Stat,
    ) -> io::Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        let number = if let Some(number) = self.copies.get(&identity) {
            *number
        } else {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, from_name, flags, Mode::empty())?;
            let number = self.numbers;
            self.numbers += 1;
            let copy = create(self.contents, number)?;
            copy_content(&source, &copy, stat)?;
            Meta::read(stat, &source)?.give_to(&copy)?;
            number
        };
        let kept = numbered(number);
        if stat.st_nlink > 1 {
            self.copies.insert(identity, number);
            rustix::fs::linkat(self.contents, kept, into, name, AtFlags::empty())?;
        } else {
            rustix::fs::renameat(self.contents, kept, into, name)?;
        }
        Ok(())
    }
}

/// What is called `name` in `dir`, if anything.
pub(super) fn look(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode).is_dir()
}

/// Removes what is called `name` in a directory of the engine's own.
pub(super) fn remove_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => remove_tree(&path_of(dir, name)),
        other => Ok(other?),
    }
}

/// A path to what is called `name` in an open directory.
pub(super) fn path_of(dir: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::OsStr::from_bytes(name.to_bytes());
    Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

/// Lays whole trees over each other, uppermost first, as `tree` in `draft`.
pub(super) fn flatten(
    trees: &[PathBuf],
    draft: BorrowedFd<'_>,
    contents: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut union = Union::new(contents);
    for tree in trees.iter().rev() {
        let (parent, name) = open_entry(tree)?;
        union.lay(false, (parent.as_fd(), &name), (draft, c"tree"))?;
    }
    Ok(())
}

/// The directory that a path of the engine's own lies in, and its name there.
fn open_entry(path: &Path) -> io::Result<(OwnedFd, CString)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let parent = open_own(path.parent().ok_or_else(invalid)?)?;
    let name = path.file_name().ok_or_else(invalid)?;
    Ok((parent, CString::new(name.as_encoded_bytes())?))
}
