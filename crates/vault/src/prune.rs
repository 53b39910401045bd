//! Giving back room that nothing refers to any more.
//!
//! Two phases: a prune marks what nothing refers to and is older than the grace period (what is
//! younger may belong to a save that is under way), and a prune that comes at least that period
//! later deletes what has been marked for so long and is still not referred to. What has
//! come into use in between loses its mark, and can be read before it does. Writers are never kept
//! waiting; see [`crate::save`] for how the two make sure of each other.

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
    let done = round(inner, grace, || ())?;
    // The second look: what snapshots that were written meanwhile refer to loses its mark.
    let looked = round(inner, Duration::MAX, || ())?;
    let _ = inner.store.sweep(grace.max(Duration::from_hours(1)));
    Ok(Pruned { bytes: done.bytes, marked_bytes: looked.marked_bytes })
}

/// Looks at all snapshots, marks and unmarks, and deletes what was marked for longer than `grace`.
/// `decided` is called in between; tests have others write then.
fn round(inner: &Inner, grace: Duration, decided: impl FnOnce()) -> Result<Pruned> {
    // A hundred years is for ever, and still a date.
    let grace = grace.as_secs().min(100 * 365 * 24 * 60 * 60);
    let grace = i64::try_from(grace).unwrap_or(i64::MAX);
    let mut options = PruneOptions::default();
    options.keep_delete = Span::new().seconds(grace);
    options.keep_pack = options.keep_delete;
    let (session, repository, plan) = retry_if_gone(|| {
        let (session, repository) = inner.session()?;
        session.settle_snapshots()?;
        let plan = repository.prune_plan(&options).map_err(|error| session.explain(&error))?;
        Ok((session, repository, plan))
    })?;
    let stats = &plan.stats;
    let marked = stats.size_sum().remove + stats.size_to_delete.keep + stats.size_unref;
    let pruned = Pruned { bytes: stats.size_to_delete.remove, marked_bytes: marked };
    decided();
    repository.prune(&options, plan).map_err(|error| session.explain(&error))?;
    session.outcome()?;
    Ok(pruned)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::{prune, round};
    use crate::{
        Key, Location, documents,
        open::{Inner, open_or_create},
        restore,
        save::{Saved, Source, save},
        snapshot::Shape,
        verify::verify,
    };

    /// A vault that holds a tree's content, which nothing refers to any more, and the tree.
    fn rig() -> (tempfile::TempDir, Inner) {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Dir(dir.path().join("vault"));
        let inner = open_or_create(&location, &Key::Random([1; 32])).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("tree/file"), "content that is in one pack").unwrap();
        let saved = save_tree(&inner, &dir, || ());
        documents::forget(&inner, &[saved.id]).unwrap();
        (dir, inner)
    }

    /// Saves the tree; `meanwhile` runs when the save has read the index, and before it reads the
    /// tree.
    fn save_tree(inner: &Inner, dir: &tempfile::TempDir, meanwhile: impl Fn()) -> Saved {
        let source = || {
            meanwhile();
            Source::tree(&dir.path().join("tree"))
        };
        save(inner, Shape::Tree, "tree", source).unwrap()
    }

    fn assert_sound(inner: &Inner, dir: &tempfile::TempDir, saved: &Saved) {
        let verified = verify(inner, true).unwrap();
        assert!(verified.is_sound(), "{verified:?}");
        restore::tree(inner, saved.id, &dir.path().join("back")).unwrap();
        let content = fs::read(dir.path().join("back/file")).unwrap();
        assert_eq!(content, b"content that is in one pack");
    }

    #[test]
    fn a_save_is_whole_though_what_it_counted_on_was_marked_meanwhile() {
        let (dir, inner) = rig();
        let saved = save_tree(&inner, &dir, || {
            prune(&inner, Duration::ZERO).unwrap();
        });
        assert_sound(&inner, &dir, &saved);
    }

    #[test]
    fn a_save_is_whole_though_what_it_counted_on_was_deleted_meanwhile() {
        let (dir, inner) = rig();
        let saved = save_tree(&inner, &dir, || {
            prune(&inner, Duration::ZERO).unwrap();
            prune(&inner, Duration::ZERO).unwrap();
        });
        assert_sound(&inner, &dir, &saved);
    }

    #[test]
    fn a_prune_takes_back_what_was_saved_between_its_decision_and_its_deed() {
        let (dir, inner) = rig();
        let mut saved = None;
        round(&inner, Duration::ZERO, || saved = Some(save_tree(&inner, &dir, || ()))).unwrap();
        let saved = saved.unwrap();
        assert!(!is_in_the_index(&inner, &saved), "the second look has something to see");
        assert_sound(&inner, &dir, &saved);
        round(&inner, Duration::MAX, || ()).unwrap();
        assert!(is_in_the_index(&inner, &saved));
    }

    fn is_in_the_index(inner: &Inner, saved: &Saved) -> bool {
        let (_, repository) = inner.session().unwrap();
        let snapshot = crate::snapshot::one(inner, saved.id).unwrap();
        crate::save::is_complete(&repository.to_indexed().unwrap(), &snapshot)
    }

    #[test]
    fn what_nothing_refers_to_is_marked_first_and_deleted_after_its_grace() {
        let (_dir, inner) = rig();
        let before = inner.store.size().unwrap();
        let young = prune(&inner, Duration::from_hours(24)).unwrap();
        assert!(young.bytes == 0 && young.marked_bytes == 0, "{young:?}");
        let marked = prune(&inner, Duration::ZERO).unwrap();
        assert!(marked.bytes == 0 && marked.marked_bytes > 0, "{marked:?}");
        let waited = prune(&inner, Duration::from_hours(24)).unwrap();
        assert!(waited.bytes == 0 && waited.marked_bytes > 0, "{waited:?}");
        let deleted = prune(&inner, Duration::ZERO).unwrap();
        assert!(deleted.bytes > 0 && deleted.marked_bytes == 0, "{deleted:?}");
        assert!(inner.store.size().unwrap() < before);
        assert_eq!(inner.store.list("data").unwrap(), []);
    }

    #[test]
    fn one_prunes_at_a_time() {
        let (dir, inner) = rig();
        let location = Location::Dir(dir.path().join("vault"));
        let other = open_or_create(&location, &Key::Random([1; 32])).unwrap();
        let lock = other.store.lock_for_pruning().unwrap();
        let refused = prune(&inner, Duration::ZERO).unwrap_err();
        assert!(matches!(refused, crate::VaultError::Busy { .. }), "{refused}");
        drop(lock);
        prune(&inner, Duration::ZERO).unwrap();
    }
}
