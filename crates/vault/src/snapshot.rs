//! What a vault says of the snapshots in it.

use std::{
    collections::{HashMap, HashSet},
    sync::PoisonError,
};

use jiff::Timestamp;
use rustic_core::{
    Id, RusticError,
    repofile::{SnapshotFile, SnapshotId as EngineId, StringList},
};
use serde::{Deserialize, Serialize};

use crate::{Result, VaultError, hex, hex::written_in_hex, open::Inner};

/// A snapshot's name: the hash of what is stored of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId([u8; 32]);

written_in_hex!(SnapshotId, "a snapshot's id: 64 hexadecimal digits");

impl SnapshotId {
    pub(crate) fn of(id: &Id) -> Self {
        hex::decode(&id.to_hex()).map(Self).expect("the engine's ids are 64 hexadecimal digits")
    }

    pub(crate) fn path(self) -> String {
        format!("snapshots/{self}")
    }
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A directory and all in it.
    Tree,
    /// One file's content.
    File,
}

/// A snapshot in the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// What it was saved under.
    pub label: String,
    /// What it holds.
    pub content: Content,
    /// When it was saved. Later ones with the same label have later times, whatever the clock did.
    pub saved_at: Timestamp,
    /// The size of all its files.
    pub total_bytes: u64,
    /// By how much the vault grew.
    pub added_bytes: u64,
    /// How many entries it has besides directories.
    pub files: u64,
}

/// The kinds of snapshots, told apart by the one path that the snapshot says it was made from:
/// the name of the only entry at its top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Tree,
    File,
    Document,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::File => "file",
            Self::Document => "document",
        }
    }

    pub(crate) fn of(snapshot: &SnapshotFile) -> Option<Self> {
        let paths: &StringList = &snapshot.paths;
        let mut paths = paths.iter();
        let (path, None) = (paths.next()?, paths.next()) else { return None };
        [Self::Tree, Self::File, Self::Document].into_iter().find(|shape| shape.name() == path)
    }
}

/// All snapshots of a shape, the oldest first.
pub(crate) fn all(inner: &Inner, shape: impl Fn(Shape) -> bool) -> Result<Vec<SnapshotFile>> {
    let mut found = read(inner)?;
    found.retain(|snapshot| Shape::of(snapshot).is_some_and(&shape));
    found.sort_by_key(|snapshot| (snapshot.time.timestamp(), snapshot.id));
    Ok(found)
}

/// All snapshots. They never change, so those that were read before are not read again.
fn read(inner: &Inner) -> Result<Vec<SnapshotFile>> {
    // Snapshots may be forgotten by somebody else between being listed and being read.
    retry_if_gone(|| {
        let (session, repository) = inner.session()?;
        let listed = repository.list::<EngineId>().map_err(|error| session.explain(&error))?;
        let listed: HashSet<EngineId> = listed.collect();
        let known = || inner.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: HashMap<EngineId, SnapshotFile> = known().clone();
        found.retain(|id, _| listed.contains(id));
        let unknown = listed.into_iter().filter(|id| !found.contains_key(id)).collect();
        let read = || -> Result<(), Box<RusticError>> {
            for file in repository.stream_files_list::<SnapshotFile>(unknown)? {
                let (id, file) = file?;
                found.insert(id, SnapshotFile { id, ..file });
            }
            Ok(())
        };
        read().map_err(|error| session.explain(&error))?;
        known().clone_from(&found);
        Ok(found.into_values().collect())
    })
}

/// Does it again when a file that was listed was gone when it was read: a prune puts new index
/// files in place of old ones, and snapshots are forgotten, while others read. Files that are gone
/// for good are not listed either, so this ends.
pub(crate) fn retry_if_gone<T>(work: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..9 {
        match work() {
            Err(error) if error.is_gone() => {}
            other => return other,
        }
    }
    work()
}

/// One snapshot.
pub(crate) fn one(inner: &Inner, id: SnapshotId) -> Result<SnapshotFile> {
    let (session, repository) = inner.session()?;
    let text = id.to_string();
    let found = repository.get_snapshots(&[text.as_str()]);
    match found.map_err(|error| session.explain(&error)) {
        Ok(mut found) => found.pop().ok_or(VaultError::NoSuchSnapshot { id }),
        Err(error) if error.is_gone() => Err(VaultError::NoSuchSnapshot { id }),
        Err(error) => Err(error),
    }
}

/// What callers see of a snapshot of a tree or a file.
pub(crate) fn describe(snapshot: &SnapshotFile) -> Option<Snapshot> {
    let content = match Shape::of(snapshot)? {
        Shape::Tree => Content::Tree,
        Shape::File => Content::File,
        Shape::Document => return None,
    };
    let summary = snapshot.summary.as_ref();
    Some(Snapshot {
        id: SnapshotId::of(&snapshot.id),
        label: snapshot.label.clone(),
        content,
        saved_at: snapshot.time.timestamp(),
        total_bytes: summary.map_or(0, |summary| summary.total_bytes_processed),
        added_bytes: summary.map_or(0, |summary| summary.data_added_packed),
        files: summary.map_or(0, |summary| summary.total_files_processed),
    })
}
