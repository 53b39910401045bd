//! Small named documents: each a snapshot of one file. The newest of a name is the document.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    Result, VaultError,
    open::Inner,
    restore,
    save::{Source, save},
    snapshot::{self, Shape, SnapshotId},
};

/// The largest document. Whatever is larger is a file.
const LARGEST: usize = 64 << 20;

/// A document's name and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was put.
    pub put_at: Timestamp,
}

/// Stores a document in place of one of its name.
pub(crate) fn put(inner: &Inner, name: &str, content: Bytes) -> Result<()> {
    if content.len() > LARGEST {
        return Err(VaultError::Invalid(format!(
            "document {name:?} has {} bytes; at most {LARGEST} are stored as one",
            content.len()
        )));
    }
    let saved = save(inner, Shape::Document, name, || Source::bytes(content.clone()))?;
    // What it replaces goes once it is there; should this not come to pass, the newest counts.
    let all = snapshot::all(inner, |shape| shape == Shape::Document)?;
    let of_name = all.iter().filter(|snapshot| snapshot.label == name);
    let older =
        of_name.map(|snapshot| SnapshotId::of(&snapshot.id)).take_while(|id| *id != saved.id);
    forget(inner, &older.collect::<Vec<_>>())
}

/// A document's content, if there is one of that name.
pub(crate) fn get(inner: &Inner, name: &str) -> Result<Option<Vec<u8>>> {
    snapshot::retry_if_gone(|| {
        let all = snapshot::all(inner, |shape| shape == Shape::Document)?;
        let Some(newest) = all.iter().rev().find(|snapshot| snapshot.label == name) else {
            return Ok(None);
        };
        let mut content = Vec::new();
        restore::content(inner, newest, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Some(content))
    })
}

/// The documents whose names begin so, by name.
pub(crate) fn list(inner: &Inner, prefix: &str) -> Result<Vec<Document>> {
    let mut newest = BTreeMap::new();
    for snapshot in snapshot::all(inner, |shape| shape == Shape::Document)? {
        if !snapshot.label.starts_with(prefix) {
            continue;
        }
        let bytes = snapshot.summary.as_ref().map_or(0, |summary| summary.total_bytes_processed);
        let put_at = snapshot.time.timestamp();
        let name = snapshot.label;
        newest.insert(name.clone(), Document { name, bytes, put_at });
    }
    Ok(newest.into_values().collect())
}

/// Removes a document. Whether there was one.
pub(crate) fn remove(inner: &Inner, name: &str) -> Result<bool> {
    let all = snapshot::all(inner, |shape| shape == Shape::Document)?;
    let of_name = all.iter().filter(|snapshot| snapshot.label == name);
    let ids: Vec<_> = of_name.map(|snapshot| SnapshotId::of(&snapshot.id)).collect();
    forget(inner, &ids)?;
    Ok(!ids.is_empty())
}

/// Removes snapshots. What they alone refer to is left to the next prune; one that is not there is
/// removed already.
pub(crate) fn forget(inner: &Inner, ids: &[SnapshotId]) -> Result<()> {
    for id in ids {
        let path = id.path();
        inner.store.remove(&path).map_err(|source| VaultError::Storage {
            doing: "remove",
            path,
            location: inner.location.clone(),
            source,
        })?;
    }
    Ok(())
}
