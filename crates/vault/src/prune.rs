//! Giving back room that nothing refers to any more.
//!
//! Two phases: a prune marks what nothing refers to, and a prune that comes at least the grace
//! period later deletes what has been marked for so long and is still not referred to. What has
//! come into use in between loses its mark. Writers are never kept waiting; see [`crate::save`] for
//! how the two make sure of each other.

use std::time::Duration;

use jiff::Span;
use rustic_core::PruneOptions;

use crate::{Result, VaultError, open::Inner, snapshot::retry_if_gone};

/// What a prune did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How much room was given back.
    pub bytes: u64,
    /// How much has been marked, and goes once its grace is over.
    pub marked_bytes: u64,
}

pub(crate) fn prune(inner: &Inner, grace: Duration) -> Result<Pruned> {
    let busy = || VaultError::Busy { location: inner.location.clone() };
    let _mine = inner.pruning.try_lock().map_err(|_| busy())?;
    let _ours = inner.store.lock_for_pruning().map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => busy(),
        _ => VaultError::Storage {
            doing: "lock",
            path: "prune.lock".to_owned(),
            location: inner.location.clone(),
            source,
        },
    })?;
    let done = round(inner, grace)?;
    // The second look: what snapshots that were written meanwhile refer to loses its mark.
    let looked = round(inner, Duration::MAX)?;
    let _ = inner.store.sweep(grace.max(Duration::from_hours(1)));
    Ok(Pruned { bytes: done.bytes, marked_bytes: looked.marked_bytes })
}

/// Looks at all snapshots, marks and unmarks, and deletes what was marked for longer than `grace`.
fn round(inner: &Inner, grace: Duration) -> Result<Pruned> {
    // A hundred years is for ever, and still a date.
    let grace = grace.as_secs().min(100 * 365 * 24 * 60 * 60);
    let grace = i64::try_from(grace).unwrap_or(i64::MAX);
    let mut options = PruneOptions::default();
    options.keep_delete = Span::new().seconds(grace);
    let (session, repository, plan) = retry_if_gone(|| {
        let (session, repository) = inner.session()?;
        let plan = repository.prune_plan(&options).map_err(|error| session.explain(&error))?;
        Ok((session, repository, plan))
    })?;
    let stats = &plan.stats;
    let marked = stats.size_sum().remove + stats.size_to_delete.keep + stats.size_unref;
    let pruned = Pruned { bytes: stats.size_to_delete.remove, marked_bytes: marked };
    repository.prune(&options, plan).map_err(|error| session.explain(&error))?;
    match session.failure() {
        Some(failure) => Err(failure),
        None => Ok(pruned),
    }
}
