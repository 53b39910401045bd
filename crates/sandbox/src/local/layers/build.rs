//! A layer's tree, built from what a walk found.

use std::{
    collections::HashSet,
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    content::numbered,
    ladder::{Ladder, open_directory},
    meta::Meta,
    walk::{Step, What},
};

/// Builds trees. Nobody else writes to where it works.
#[derive(Debug)]
struct Builder<'a> {
    parent: BorrowedFd<'a>,
    /// Holds copied contents by number, and a whiteout to link others to.
    contents: BorrowedFd<'a>,
    ladder: Ladder,
    metas: Vec<Meta>,
    dressed: HashSet<u64>,
    has_whiteout: bool,
}

/// Builds the tree called `name` in `parent` from a walk's steps.
pub(super) fn build(
    steps: Vec<Step>,
    parent: BorrowedFd<'_>,
    name: &CStr,
    contents: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut builder = Builder::new(parent, contents);
    for step in steps {
        builder.step(name, step)?;
    }
    builder.finish()
}

impl<'a> Builder<'a> {
    fn new(parent: BorrowedFd<'a>, contents: BorrowedFd<'a>) -> Self {
        let (ladder, metas, dressed) = Default::default();
        Self { parent, contents, ladder, metas, dressed, has_whiteout: false }
    }

    fn step(&mut self, tree: &CStr, step: Step) -> io::Result<()> {
        while self.metas.len() > step.depth as usize {
            self.leave()?;
        }
        match step.what {
            What::Directory(meta) => {
                let name = if step.depth == 0 { tree } else { &step.name };
                self.enter(name, meta)
            }
            What::File { number, meta, links } => self.file(&step.name, number, &meta, links),
            What::Link { target, meta } => self.link(&step.name, &target, &meta),
            What::Special { kind, device, meta } => {
                make_special(self.here(), &step.name, kind, device, &meta)
            }
            What::Whiteout => self.whiteout(&step.name),
        }
    }

    /// The directory being filled.
    fn here(&self) -> BorrowedFd<'_> {
        if self.metas.is_empty() { self.parent } else { self.ladder.here() }
    }

    /// Makes a directory and goes into it; it gets `meta` when it is left.
    fn enter(&mut self, name: &CStr, meta: Meta) -> io::Result<()> {
        rustix::fs::mkdirat(self.here(), name, Mode::RWXU)?;
        let made = open_directory(self.here(), name)?;
        self.ladder.push(made)?;
        self.metas.push(meta);
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let left = self.ladder.pop()?;
        // Last, because filling it moved its times and needed rights that it may not have.
        match (left, self.metas.pop()) {
            (Some(left), Some(meta)) => meta.give_to(left),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        while !self.metas.is_empty() {
            self.leave()?;
        }
        Ok(())
    }

    fn file(&mut self, name: &CStr, number: u64, meta: &Meta, links: bool) -> io::Result<()> {
        let kept = numbered(number);
        if !links || self.dressed.insert(number) {
            let file = rustix::fs::openat(self.contents, &kept, FOR_META, Mode::empty())?;
            meta.give_to(file)?;
        }
        if links {
            rustix::fs::linkat(self.contents, &kept, self.here(), name, AtFlags::empty())?;
        } else {
            rustix::fs::renameat(self.contents, &kept, self.here(), name)?;
        }
        Ok(())
    }

    fn link(&self, name: &CStr, target: &CStr, meta: &Meta) -> io::Result<()> {
        rustix::fs::symlinkat(target, self.here(), name)?;
        meta.give_at(self.here(), name)
    }

    /// Makes a whiteout. All of a layer are links to one, as overlayfs itself does it: that is
    /// quicker and takes less room.
    fn whiteout(&mut self, name: &CStr) -> io::Result<()> {
        const FIRST: &CStr = c"whiteout";
        if !self.has_whiteout {
            make_whiteout(self.contents, FIRST)?;
            self.has_whiteout = true;
        }
        if let Some(meta) = self.metas.last_mut() {
            meta.set_whiteouts();
        }
        match rustix::fs::linkat(self.contents, FIRST, self.here(), name, AtFlags::empty()) {
            Err(Errno::MLINK) => make_whiteout(self.here(), name),
            other => Ok(other?),
        }
    }
}

/// Makes a pipe or a device, a whiteout among them.
pub(super) fn make_special(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    device: u64,
    meta: &Meta,
) -> io::Result<()> {
    match rustix::fs::mknodat(dir, name, kind, Mode::RUSR, device) {
        // Without privilege there are no devices, and none can have been made.
        Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
        other => other?,
    }
    meta.give_at(dir, name)
}

const FOR_META: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A device that overlayfs takes for "nothing here". Anybody may make one since Linux 5.8.
pub(super) fn make_whiteout(dir: impl AsFd, name: &CStr) -> io::Result<()> {
    let mode = Mode::empty();
    match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, 0) {
        Err(Errno::PERM) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel lets only root mark a file as gone; use Linux 5.8 or newer",
        )),
        other => Ok(other?),
    }
}
