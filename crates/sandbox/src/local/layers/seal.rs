//! Keeping the writable disk of a sandbox as it is at one moment.
//!
//! In three parts, of which only the second needs the sandbox to stand still: copying ahead what
//! changed, looking through everything once more and copying what changed since, and putting the
//! layer together. On btrfs the second part is a snapshot and there is no third.

use std::{
    collections::HashSet,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    sync::PoisonError,
    time::{Duration, Instant},
};

use rclaude_types::{LayerId, SandboxId};
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::{
    super::{
        layout::{LayerDir, SandboxDir},
        protocol::{Failure, FailureClass, While as _},
        provider::Inner,
        remove::remove_tree,
        sys::open_own,
        template::is_root,
    },
    btrfs,
    build::build,
    content::Contents,
    index::{Index, TreeIdentity},
    ladder::open_directory,
    mapped,
    rights::Helper,
    walk::{Care, Found, walk},
};

/// Copying ahead is repeated until a round was this quick, since as much may have changed again.
const SOON: Duration = Duration::from_millis(300);
const MOST_ROUNDS: u32 = 3;
/// Holds copied contents in a draft.
const CONTENTS: &str = "contents";

/// What was copied ahead for a layer.
#[derive(Debug)]
pub(super) struct Prepared {
    sandbox: SandboxId,
    contents: Contents,
}

/// A seal under way.
#[derive(Debug)]
pub(super) struct Sealing {
    sandbox: SandboxDir,
    draft: LayerDir,
    how: How,
}

#[derive(Debug)]
enum How {
    Snapshot,
    Delta {
        since: Option<Index>,
        contents: Contents,
        found: Option<Found>,
    },
    /// By a process that may read all of it; says whether the layer is to be whole.
    Elsewhere {
        helper: Helper,
        whole: bool,
    },
}

/// What it came to, but for how long the sandbox stood still.
#[derive(Debug)]
pub(super) struct Kept {
    pub whole: bool,
    pub bytes: u64,
}

/// Copies what changed since `since` while the sandbox goes on.
pub(super) fn prepare(
    inner: &Inner,
    id: &SandboxId,
    layer: &LayerId,
    since: Option<&LayerId>,
) -> Result<(), Failure> {
    let sandbox = known(inner, id)?;
    let slot = inner.shelf.slot(layer);
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if sandbox.is_subvolume() {
        // So that the snapshot has less to write.
        let disk = open_own(&sandbox.disk()).during("open the sandbox's disk")?;
        return rustix::fs::syncfs(disk).during("write the sandbox's disk out");
    }
    *slot = None;
    let draft = inner.shelf.new_draft(layer)?;
    let copied = copy_ahead(inner, id, &draft, since).during("copy the sandbox's files");
    if copied.is_err() {
        inner.shelf.remove(layer)?;
    }
    *slot = Some(Prepared { sandbox: id.clone(), contents: copied? });
    Ok(())
}

fn copy_ahead(
    inner: &Inner,
    id: &SandboxId,
    draft: &LayerDir,
    since: Option<&LayerId>,
) -> io::Result<Contents> {
    let since = index_of(inner, &inner.engine.sandbox(id), since)?;
    let mut contents = new_contents(draft)?;
    for _ in 0..MOST_ROUNDS {
        let begun = Instant::now();
        pass(inner, id, since.as_ref(), &mut contents, Care::Ahead)?;
        if begun.elapsed() < SOON {
            break;
        }
    }
    Ok(contents)
}

impl Sealing {
    /// Gets ready, with what was prepared if that was for the same.
    pub(super) fn begin(
        inner: &Inner,
        id: &SandboxId,
        layer: &LayerId,
        since: Option<&LayerId>,
    ) -> Result<Self, Failure> {
        let sandbox = known(inner, id)?;
        let slot = inner.shelf.slot(layer);
        let prepared = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        inner.shelf.forget_slot(layer);
        if sandbox.is_subvolume() {
            let draft = inner.shelf.new_draft(layer)?;
            return Ok(Self { sandbox, draft, how: How::Snapshot });
        }
        let prepared = prepared.filter(|prepared| prepared.sandbox == *id);
        let (draft, contents) = if let Some(prepared) = prepared {
            (inner.shelf.draft(layer), prepared.contents)
        } else {
            let draft = inner.shelf.new_draft(layer)?;
            let contents = new_contents(&draft).during("make room for the layer")?;
            (draft, contents)
        };
        let since = index_of(inner, &sandbox, since).during("read the earlier layer's index")?;
        let whole = since.is_none();
        let here = Self { sandbox, draft, how: How::Delta { since, contents, found: None } };
        if is_root() {
            return Ok(here);
        }
        let (sandbox, draft) = (here.sandbox.clone(), here.draft.clone());
        let mut here = Some(here);
        let work = |number| {
            if let (0, Some(here)) = (number, &mut here) {
                return here.take(inner, id).map(|()| 0);
            }
            let here = here.take().ok_or(io::ErrorKind::InvalidInput)?;
            here.build(inner, id).map(|kept| kept.bytes)
        };
        let helper = Helper::start(2, work).during("split off a process")?;
        Ok(Self { sandbox, draft, how: How::Elsewhere { helper, whole } })
    }

    /// The part for which the sandbox stands still.
    pub(super) fn take(&mut self, inner: &Inner, id: &SandboxId) -> io::Result<()> {
        match &mut self.how {
            How::Snapshot => {
                let (from, into) = (open_own(&self.sandbox.disk())?, open_own(self.draft.path())?);
                btrfs::snapshot(from, into, c"disk")
            }
            How::Delta { since, contents, found } => {
                *found = Some(pass(inner, id, since.as_ref(), contents, Care::Final)?);
                Ok(())
            }
            How::Elsewhere { helper, .. } => helper.next().map(drop),
        }
    }

    /// Puts the layer together in its draft.
    pub(super) fn build(self, inner: &Inner, id: &SandboxId) -> io::Result<Kept> {
        match self.how {
            How::Snapshot => {
                let tree = open_own(&self.draft.tree())?;
                Ok(Kept { whole: true, bytes: inner.shelf.sizes.of(id, tree)? })
            }
            How::Delta { since, contents, found } => {
                let found = found.ok_or(io::ErrorKind::InvalidInput)?;
                let draft = open_own(self.draft.path())?;
                build(found.steps, draft.as_fd(), c"tree", contents.dir())?;
                fs::write(self.draft.index(), &found.index)?;
                remove_tree(&self.draft.path().join(CONTENTS))?;
                Ok(Kept { whole: since.is_none(), bytes: found.bytes })
            }
            How::Elsewhere { mut helper, whole } => Ok(Kept { whole, bytes: helper.next()? }),
        }
    }
}

fn known(inner: &Inner, id: &SandboxId) -> Result<SandboxDir, Failure> {
    let sandbox = inner.engine.sandbox(id);
    if sandbox.spec().exists() {
        Ok(sandbox)
    } else {
        Err(Failure::new(FailureClass::Rejected, "there is no such sandbox"))
    }
}

fn pass(
    inner: &Inner,
    id: &SandboxId,
    since: Option<&Index>,
    contents: &mut Contents,
    care: Care,
) -> io::Result<Found> {
    let (top, identity) = open_upper(&inner.engine.sandbox(id))?;
    let mapped = match inner.alive(id)? {
        Some(state) => mapped::inodes(&top, state.process.namespace)?,
        None => HashSet::new(),
    };
    walk(top, identity, since, contents, &mapped, care)
}

/// The index of an earlier layer, if there is one and it describes this sandbox's tree.
fn index_of(
    inner: &Inner,
    sandbox: &SandboxDir,
    layer: Option<&LayerId>,
) -> io::Result<Option<Index>> {
    let Some(dir) = layer.and_then(|layer| inner.shelf.find(layer)) else { return Ok(None) };
    let (_, identity) = open_upper(sandbox)?;
    Ok(Index::read(&dir.index())?.filter(|index| index.tree() == identity))
}

fn open_upper(sandbox: &SandboxDir) -> io::Result<(OwnedFd, TreeIdentity)> {
    let disk = open_own(&sandbox.disk())?;
    let upper = open_directory(disk.as_fd(), c"upper")?;
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let found = statx(&upper, c"", AtFlags::EMPTY_PATH, wanted)?;
    let born = super::meta::nanoseconds(found.stx_btime.tv_sec, found.stx_btime.tv_nsec.into());
    Ok((upper, TreeIdentity { ino: found.stx_ino, born }))
}

fn new_contents(draft: &LayerDir) -> io::Result<Contents> {
    let dir = draft.path().join(CONTENTS);
    fs::create_dir(&dir)?;
    Ok(Contents::new(open_own(&dir)?))
}
