//! One pass over a sandbox's writable tree: what is there, and what of it a new layer must hold.
//!
//! The tree and the index of an earlier layer are both sorted, so one walk down the tree with a
//! finger in the index tells for each entry whether it is new, changed, the same or gone, in the
//! time of looking at every entry once. What is found is a list of [`Step`]s that build the
//! layer. Contents are copied while walking, all else while building.
//!
//! # Why laying the steps over the earlier layers shows the same as the tree
//!
//! Call the tree at the earlier seal U1 and now U2; below both lies the base the sandbox started
//! on. The stack so far (over the base) shows what U1 over the base showed. Compare path by path:
//!
//! - *Not in U1*: the step copies U2's entry as it is, with whiteouts and opaque flags: there is
//!   nothing between it and the base but directories that are walked the same way.
//! - *Something else than a directory in either*: if it changed at all the step is U2's entry,
//!   and hides what was there. A directory over a former file or whiteout needs no flag: merging
//!   stops where a layer has something that is no directory, so that the file hides the base for
//!   the directory above it, too. In U2 itself the directory may lack the flag only if the base
//!   has no directory there, since overlayfs sets it when one is made over something of a lower
//!   layer.
//! - *Gone from U2*: the base shows nothing there either: had it something, overlayfs would have
//!   left a whiteout, which is an entry. So the step is a whiteout, against the earlier layer,
//!   and at the topmost of what is gone. (A whiteout that is gone needs nothing: the earlier
//!   layer's may stay, because it is gone only with all it could hide.)
//! - *A directory in both*: its entries are compared one by one, also if it is another directory
//!   under the old name: what of the old one is missing in the new one gets whiteouts like any
//!   other loss. So it never matters whether an equal inode means an equal directory. The opaque
//!   flag alone needs care:
//!   - opaque now but not then: the new layer's directory is opaque and holds all of U2's, since
//!     it hides the earlier layers with the base;
//!   - opaque in both: the new layer's directory is *not* opaque, or it would hide the unchanged
//!     entries of the earlier layer, whose own flag hides the base;
//!   - opaque then but not now: there is nothing of the base to hide, as above.
//!
//! # Why nothing changed goes unnoticed
//!
//! Change times have a granularity (a few milliseconds), and a page of a file that is mapped for
//! writing moves the file's time with its first change only, until it is written to disk. An
//! entry whose change time is not safely before the pass, and a file mapped for writing during
//! the pass, are therefore *doubted*: they count as changed the next time anybody looks. One time
//! is taken for the whole pass, so that all names of one file are judged alike.

use std::{
    cmp::Ordering,
    collections::HashSet,
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{AtFlags, FileType, RawDir, Stat, statat},
    io::Errno,
    time::{ClockId, clock_gettime},
};

use super::{
    content::Contents,
    index::{Cursor, Index, IndexWriter, Known, TreeIdentity},
    ladder::{Ladder, open_directory},
    meta::{Mark, Meta},
};

/// A change so shortly before a pass may share its time with one after it, in nanoseconds. Times
/// move every ten milliseconds with the coarsest of kernels.
const RACY: i64 = 20_000_000;

/// One thing to do to build a layer. They come in the order of the walk.
#[derive(Debug)]
pub(super) struct Step {
    /// How deep below the root, which has 0.
    pub depth: u32,
    pub name: CString,
    pub what: What,
}

/// What a layer gets.
#[derive(Debug)]
pub(super) enum What {
    Directory(Meta),
    /// A copied content. One with `links` has other names, too.
    File {
        number: u64,
        meta: Arc<Meta>,
        links: bool,
    },
    Link {
        target: CString,
        meta: Meta,
    },
    /// A pipe or a device.
    Special {
        kind: FileType,
        device: u64,
        meta: Meta,
    },
    Whiteout,
}

/// What a pass came to.
#[derive(Debug)]
pub(super) struct Found {
    pub steps: Vec<Step>,
    /// The index of the whole tree.
    pub index: Vec<u8>,
    /// Bytes in the files among the steps.
    pub bytes: u64,
}

/// How a pass treats what fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Leaves it to a later pass: the tree is being written meanwhile.
    Ahead,
    /// Fails. Only what vanishes under its hands is let go: some hosts cannot freeze.
    Final,
}

/// Walks the tree at `top`. With `since`, which must describe this very tree, finds what changed.
/// `mapped` are the inodes of files that somebody may change without a trace.
pub(super) fn walk(
    top: OwnedFd,
    identity: TreeIdentity,
    since: Option<&Index>,
    contents: &mut Contents,
    mapped: &HashSet<u64>,
    care: Care,
) -> io::Result<Found> {
    let now = clock_gettime(ClockId::RealtimeCoarse);
    let now = super::meta::nanoseconds(now.tv_sec, now.tv_nsec.cast_unsigned());
    contents.begin_pass();
    let stat = rustix::fs::fstat(&top)?;
    let meta = Meta::read(&stat, &top)?;
    let mut walk = Walk {
        device: stat.st_dev,
        ladder: Ladder::default(),
        frames: Vec::new(),
        old: since.map(Index::cursor).unwrap_or_default(),
        index: IndexWriter::new(identity),
        steps: Vec::new(),
        bytes: 0,
        counted: HashSet::new(),
        buffer: Vec::with_capacity(1 << 15),
        contents,
        mapped,
        racy: now - RACY,
        care,
    };
    let old = walk.old.at(0);
    if old.is_some() {
        walk.old.advance();
    }
    let mark = Mark { opaque: meta.is_opaque(), ..Mark::of(&stat) };
    walk.enter(c"".to_owned(), top, &mark, meta, old.is_some())?;
    // In every layer: an overlay takes owner and mode of its root from its uppermost.
    walk.show_ancestors();
    while let Some(frame) = walk.frames.last_mut() {
        match frame.names.pop() {
            Some((name, kind)) => walk.visit(name, kind)?,
            None => walk.leave()?,
        }
    }
    Ok(Found { steps: walk.steps, index: walk.index.finish(), bytes: walk.bytes })
}

/// A directory on the way down.
struct Frame {
    name: CString,
    /// Yet to be visited, the next one last.
    names: Vec<(CString, FileType)>,
    /// Whether the index's finger is in this directory.
    in_old: bool,
    /// Taken once the directory is among the steps.
    meta: Option<Meta>,
}

struct Walk<'a> {
    device: u64,
    ladder: Ladder,
    frames: Vec<Frame>,
    old: Cursor<'a>,
    index: IndexWriter,
    steps: Vec<Step>,
    bytes: u64,
    /// Files with more than one name that are in `bytes`.
    counted: HashSet<u64>,
    buffer: Vec<u8>,
    contents: &'a mut Contents,
    mapped: &'a HashSet<u64>,
    /// Change times after this are doubted.
    racy: i64,
    care: Care,
}

impl<'a> Walk<'a> {
    /// Depth of what is in the current directory.
    fn depth(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }

    fn enter(
        &mut self,
        name: CString,
        fd: OwnedFd,
        mark: &Mark,
        meta: Meta,
        in_old: bool,
    ) -> io::Result<()> {
        let mut names = entries(&fd, &mut self.buffer)?;
        names.sort_unstable_by(|(left, _), (right, _)| right.cmp(left));
        self.ladder.push_known(fd, (self.device, mark.ino));
        self.record(self.depth(), &name, mark);
        self.frames.push(Frame { name, names, in_old, meta: Some(meta) });
        Ok(())
    }

    fn leave(&mut self) -> io::Result<()> {
        let depth = self.depth();
        if self.frames.last().is_some_and(|frame| frame.in_old) {
            while let Some(gone) = self.old.at(depth) {
                self.lose(depth, gone);
            }
        }
        self.frames.pop();
        self.ladder.pop()?;
        Ok(())
    }

    /// Looks at one entry of the current directory, which said what kind it is.
    fn visit(&mut self, name: CString, kind: FileType) -> io::Result<()> {
        // A directory is looked at once it is open.
        let stat = if kind.is_dir() {
            None
        } else {
            match statat(self.ladder.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(()),
                other => Some(other?),
            }
        };
        let kind = stat.map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
        // A socket is nothing without the process behind it; and what is mounted in the tree is
        // not part of it.
        if kind == FileType::Socket || stat.is_some_and(|stat| stat.st_dev != self.device) {
            return Ok(());
        }
        let depth = self.depth();
        let old = self.find_old(depth, &name);
        let seen = match stat {
            Some(stat) if !kind.is_dir() => {
                if old.is_some() {
                    self.old.skip_below(depth);
                }
                self.visit_other(depth, name, &stat, old)
            }
            _ => self.visit_directory(depth, name, old),
        };
        match seen {
            Err(error) if self.may_pass_over(&error) => {
                // As if it had never been met: then it is gone, if it was there before.
                if let Some(old) = old {
                    self.old.skip_below(depth);
                    self.hide(depth, &old);
                }
                Ok(())
            }
            other => other,
        }
    }

    fn may_pass_over(&self, error: &io::Error) -> bool {
        self.care == Care::Ahead
            || matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR | libc::ESTALE)
            )
    }

    /// What the index has under this name; whatever it has before that is gone.
    fn find_old(&mut self, depth: u32, name: &CStr) -> Option<Known<'a>> {
        if !self.frames.last().is_some_and(|frame| frame.in_old) {
            return None;
        }
        while let Some(old) = self.old.at(depth) {
            match old.name.cmp(name.to_bytes()) {
                Ordering::Less => self.lose(depth, old),
                Ordering::Equal => {
                    self.old.advance();
                    return Some(old);
                }
                Ordering::Greater => break,
            }
        }
        None
    }

    fn visit_directory(
        &mut self,
        depth: u32,
        name: CString,
        old: Option<Known<'a>>,
    ) -> io::Result<()> {
        let fd = open_directory(self.ladder.here(), &name)?;
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_dev != self.device {
            return Err(Errno::NOENT.into());
        }
        let mut meta = Meta::read(&stat, &fd)?;
        let mark = Mark { opaque: meta.is_opaque(), ..Mark::of(&stat) };
        let merged = old.filter(|old| old.mark.is_dir() && (old.mark.opaque || !mark.opaque));
        if merged.is_some() {
            meta.set_opaque(false);
        } else if old.is_some() {
            self.old.skip_below(depth);
        }
        self.enter(name, fd, &mark, meta, merged.is_some())?;
        if !merged.is_some_and(|old| mark.still(&old.mark)) {
            self.show_ancestors();
        }
        Ok(())
    }

    fn visit_other(
        &mut self,
        depth: u32,
        name: CString,
        stat: &Stat,
        old: Option<Known<'a>>,
    ) -> io::Result<()> {
        let mut mark = Mark::of(stat);
        if old.is_some_and(|old| mark.still(&old.mark)) {
            self.record(depth, &name, &mark);
            return Ok(());
        }
        let here = self.ladder.here();
        let kind = mark.file_type();
        let what = match kind {
            FileType::RegularFile => {
                let (racy, mapped) = (self.racy, self.mapped);
                let doubted = |mark: &Mark| is_doubted(mark, racy, mapped);
                let copied = self.contents.take(here, &name, &mark, doubted)?;
                let copied = copied.ok_or(Errno::NOENT)?;
                mark = copied.mark;
                let links = stat.st_nlink > 1;
                if !links || self.counted.insert(copied.number) {
                    self.bytes += mark.size;
                }
                What::File { number: copied.number, meta: copied.meta, links }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(here, &name, Vec::new())?;
                What::Link { target, meta: Meta::of(stat) }
            }
            _ if mark.is_whiteout() => What::Whiteout,
            _ => What::Special { kind, device: stat.st_rdev, meta: Meta::of(stat) },
        };
        self.record(depth, &name, &mark);
        self.show_ancestors();
        self.steps.push(Step { depth, name, what });
        Ok(())
    }

    fn lose(&mut self, depth: u32, gone: Known<'a>) {
        self.old.advance();
        self.old.skip_below(depth);
        self.hide(depth, &gone);
    }

    fn hide(&mut self, depth: u32, gone: &Known<'a>) {
        if !gone.mark.is_whiteout() {
            self.show_ancestors();
            let name = CString::new(gone.name).expect("names in an index were names of files");
            self.steps.push(Step { depth, name, what: What::Whiteout });
        }
    }

    /// Makes steps of the directories on the way to the current one, and of itself.
    fn show_ancestors(&mut self) {
        let shown = self.frames.iter().rposition(|frame| frame.meta.is_none());
        let first = shown.map_or(0, |shown| shown + 1);
        for (depth, frame) in (0_u32..).zip(&mut self.frames).skip(first) {
            if let Some(meta) = frame.meta.take() {
                let name = std::mem::take(&mut frame.name);
                self.steps.push(Step { depth, name, what: What::Directory(meta) });
            }
        }
    }

    fn record(&mut self, depth: u32, name: &CStr, mark: &Mark) {
        let doubted = is_doubted(mark, self.racy, self.mapped);
        let mark = if doubted { mark.doubted() } else { *mark };
        self.index.push(depth, name.to_bytes(), &mark);
    }
}

fn is_doubted(mark: &Mark, racy: i64, mapped: &HashSet<u64>) -> bool {
    mark.ctime >= racy || mapped.contains(&mark.ino)
}

/// The names in a directory, in no order.
pub(super) fn names(dir: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Vec<CString>> {
    Ok(entries(dir, buffer)?.into_iter().map(|(name, _)| name).collect())
}

/// The same with what kind each is, where the file system tells.
fn entries(dir: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Vec<(CString, FileType)>> {
    buffer.clear();
    let mut found = Vec::new();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}
