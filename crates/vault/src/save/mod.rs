//! Saving: packs, then the index, then the snapshot. Whatever is interrupted in between leaves
//! data that nothing refers to, which the next prune removes.
//!
//! # Beside a prune
//!
//! A save relies on what the index said when it began: what is in the vault already it does not
//! write again. A prune that runs at the same time may set aside just that. Nobody waits for
//! anybody; instead both look twice.
//!
//! * The prune looks at the snapshots once more after it has changed the index, and takes back
//!   what snapshots written in between refer to ([`crate::prune`]).
//! * The save, after its snapshot is written, looks whether any index file it had read is gone. If
//!   so, a prune has changed the index since, and the save makes sure that all its snapshot refers
//!   to is still there. If not, the snapshot is taken back and the tree saved again.
//!
//! Either the snapshot was written before the prune's second look, and the prune saw it, or it was
//! written after it, and the save sees the changed index.

mod source;

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use rustic_core::{
    BackupOptions, IndexedFull, Repository, StringList,
    repofile::{SnapshotFile, SnapshotId as EngineId, Tree},
};

pub(crate) use source::Source;

use crate::{
    Result, VaultError,
    open::Inner,
    session::Session,
    snapshot::{self, Shape, SnapshotId, retry_if_gone},
};

/// How often a save is begun anew because a prune took away what it relied on. Each time the prune
/// would have to begin anew as well.
const ATTEMPTS: usize = 5;

/// The longest label, in bytes.
const LONGEST_LABEL: usize = 256;

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    /// The new snapshot.
    pub id: SnapshotId,
    /// By how much the vault grew.
    pub added_bytes: u64,
    /// The size of all files.
    pub total_bytes: u64,
    /// How many entries there are besides directories.
    pub files: u64,
}

/// Saves what `source` makes anew for each attempt.
pub(crate) fn save(
    inner: &Inner,
    shape: Shape,
    label: &str,
    source: impl Fn() -> Source,
) -> Result<Saved> {
    if label.is_empty() || label.len() > LONGEST_LABEL || label.contains(char::is_control) {
        return Err(VaultError::Invalid(format!(
            "{label:?} is no label: 1 to {LONGEST_LABEL} bytes without control characters"
        )));
    }
    for _ in 0..ATTEMPTS {
        if let Some(saved) = attempt(inner, shape, label, &source)? {
            return Ok(saved);
        }
    }
    let location = inner.location.clone();
    Err(VaultError::Busy { location })
}

fn attempt(
    inner: &Inner,
    shape: Shape,
    label: &str,
    source: &impl Fn() -> Source,
) -> Result<Option<Saved>> {
    let before = snapshot::all(inner, |other| other == shape)?;
    let parent = before.iter().rev().find(|snapshot| snapshot.label == label);
    let (session, known, repository) = retry_if_gone(|| {
        let known = index_files(inner)?;
        let (session, repository) = inner.session()?;
        let repository = repository.to_indexed_ids().map_err(|error| session.explain(&error))?;
        Ok((session, known, repository))
    })?;
    let mut options = BackupOptions::default().no_scan(true);
    // Only of trees it is known when their files last changed.
    match parent.filter(|_| shape == Shape::Tree) {
        Some(parent) => options.parent_opts.parents = vec![parent.id.to_hex().to_string()],
        None => options.parent_opts.force = true,
    }
    let source = source();
    let path = PathBuf::from(shape.name());
    let made = repository.archive(&options, &source, blank(label, shape, parent), &[path]);
    drop(repository);
    // What went wrong with the tree first: that the engine then failed too follows from it.
    source.outcome()?;
    let made = made.map_err(|error| session.explain(&error)).and_then(|made| {
        session.outcome()?;
        Ok(made)
    });
    let made = match made {
        // A pack of the parent was deleted by a prune, not lost.
        Err(VaultError::Damaged { .. }) if !known.is_subset(&index_files(inner)?) => {
            return Ok(None);
        }
        other => other?,
    };
    let summary = made.summary.as_ref();
    let counted = summary.map_or((0, 0), |summary| {
        // The engine counts the top, in which there is the tree alone.
        (summary.total_files_processed, summary.total_dirs_processed.saturating_sub(1))
    });
    if counted != source.counted() {
        return Err(VaultError::Internal(format!(
            "of {:?} files and directories {counted:?} were kept",
            source.counted()
        )));
    }
    session.commit()?;
    if !is_sound(inner, &known, &made)? {
        forget(inner, &session, &made.id)?;
        return Ok(None);
    }
    Ok(Some(Saved {
        id: SnapshotId::of(&made.id),
        added_bytes: summary.map_or(0, |summary| summary.data_added_packed),
        total_bytes: summary.map_or(0, |summary| summary.total_bytes_processed),
        files: counted.0,
    }))
}

/// The snapshot before it is known what is in it. Nothing of this machine or its user is kept.
fn blank(label: &str, shape: Shape, parent: Option<&SnapshotFile>) -> SnapshotFile {
    let now = Timestamp::now();
    let later = parent.map(|parent| parent.time.timestamp() + SignedDuration::from_nanos(1));
    let mut snapshot = SnapshotFile {
        time: Zoned::new(later.map_or(now, |later| later.max(now)), TimeZone::UTC),
        label: label.to_owned(),
        ..SnapshotFile::default()
    };
    let mut paths = StringList::default();
    paths.add(shape.name().to_owned());
    snapshot.paths = paths;
    snapshot
}

fn forget(inner: &Inner, session: &Arc<Session>, id: &EngineId) -> Result<()> {
    let path = SnapshotId::of(id).path();
    inner.store.remove(&path).map_err(|error| session.storage("remove", path, error))
}

/// The index files there are.
pub(crate) fn index_files(inner: &Inner) -> Result<HashSet<String>> {
    let listed = inner.store.list("index").map_err(|source| VaultError::Storage {
        doing: "list",
        path: "index".to_owned(),
        location: inner.location.clone(),
        source,
    })?;
    Ok(listed.into_iter().map(|(name, _)| name).collect())
}

/// Whether all that a snapshot refers to is in the vault.
fn is_sound(inner: &Inner, known: &HashSet<String>, made: &SnapshotFile) -> Result<bool> {
    if known.is_subset(&index_files(inner)?) {
        return Ok(true);
    }
    retry_if_gone(|| {
        let (session, repository) = inner.session()?;
        let repository = repository.to_indexed().map_err(|error| session.explain(&error))?;
        let sound = is_complete(&repository, made);
        match session.failure() {
            Some(failure) if !failure.is_gone() => Err(failure),
            _ => Ok(sound),
        }
    })
}

pub(crate) fn is_complete(repository: &Repository<impl IndexedFull>, made: &SnapshotFile) -> bool {
    let (mut todo, mut seen) = (vec![made.tree], HashSet::new());
    while let Some(id) = todo.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Ok(tree): Result<Tree, _> = repository.get_tree(&id) else { return false };
        for node in &tree.nodes {
            let mut blobs = node.content.iter().flatten();
            if !blobs.all(|blob| repository.get_index_entry(blob).is_ok()) {
                return false;
            }
            todo.extend(node.subtree);
        }
    }
    true
}
