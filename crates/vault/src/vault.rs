//! The vault as callers have it.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use crate::{
    Document, Key, Location, Pruned, Restored, Result, Saved, Snapshot, SnapshotId, TreeDigest,
    VaultError, Verified, documents,
    open::{self, Inner},
    prune, restore,
    save::{self, Source},
    snapshot::{self, Shape},
    verify,
};

/// An open vault. Cheap to clone; clones, other handles and other processes may all use the same
/// vault at the same time.
///
/// The work is done on threads that may block. Dropping a call's future does not stop what it
/// began: it runs to its end, and nobody hears of it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("location", &self.0.location).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault that is there.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotAVault`], [`VaultError::WrongKey`], [`VaultError::NewerFormat`] and
    /// [`VaultError::Damaged`] say apart why it cannot be opened.
    pub async fn open(location: &Location, key: &Key) -> Result<Self> {
        let (location, key) = (location.clone(), key.clone());
        blocking(move || open::open(&location, &key)).await.map(|inner| Self(Arc::new(inner)))
    }

    /// Opens the vault that is there, or makes one: in a directory that is empty or does not
    /// exist, or in a bucket that does. Of several who make one at once, one does.
    ///
    /// # Errors
    ///
    /// As [`Vault::open`], but for `NotAVault`.
    pub async fn open_or_create(location: &Location, key: &Key) -> Result<Self> {
        let (location, key) = (location.clone(), key.clone());
        let made = blocking(move || open::open_or_create(&location, &key)).await;
        made.map(|inner| Self(Arc::new(inner)))
    }

    /// Where it is.
    pub fn location(&self) -> &str {
        &self.0.location
    }

    /// Saves a directory and all in it: owners, modes, times, links, devices, attributes. What the
    /// vault has already is not stored again, and files that have not changed since the newest
    /// snapshot with this label are not even read.
    ///
    /// The tree has to hold still.
    ///
    /// # Errors
    ///
    /// [`VaultError::Tree`] or [`VaultError::Changed`] for a file that cannot be kept as it is.
    /// A snapshot is whole or there is none.
    pub async fn save(&self, tree: &Path, label: &str) -> Result<Saved> {
        let (tree, label) = (tree.to_owned(), label.to_owned());
        self.run(move |inner| save::save(inner, Shape::Tree, &label, || Source::tree(&tree))).await
    }

    /// Saves one file's content, such as a copy of a database, without its name and owner.
    ///
    /// # Errors
    ///
    /// As [`Vault::save`].
    pub async fn save_file(&self, file: &Path, label: &str) -> Result<Saved> {
        let (file, label) = (file.to_owned(), label.to_owned());
        self.run(move |inner| save::save(inner, Shape::File, &label, || Source::file(&file))).await
    }

    /// Restores a tree into a directory that is empty or does not exist. What an error leaves
    /// there is not to be used.
    ///
    /// # Errors
    ///
    /// [`VaultError::Damaged`] if something of it is missing from the vault or not what was
    /// stored; [`VaultError::Tree`] for what cannot be written.
    pub async fn restore(&self, id: &SnapshotId, into: &Path) -> Result<Restored> {
        let (id, into) = (*id, into.to_owned());
        self.run(move |inner| restore::tree(inner, id, &into)).await
    }

    /// Writes a saved file's content to a file that does not exist. An error leaves none.
    ///
    /// # Errors
    ///
    /// As [`Vault::restore`].
    pub async fn restore_file(&self, id: &SnapshotId, to: &Path) -> Result<Restored> {
        let (id, to) = (*id, to.to_owned());
        self.run(move |inner| restore::file(inner, id, &to)).await
    }

    /// The digest of a saved tree, to be compared with [`digest`](crate::digest) of one on disk.
    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// As [`Vault::restore`].
    pub async fn digest(&self, id: &SnapshotId) -> Result<TreeDigest> {
        let id = *id;
        self.run(move |inner| restore::digest(inner, id)).await
    }

    /// Stores a document of at most 64 MiB under a name, in place of one of that name.
    ///
    /// # Errors
    ///
    /// [`VaultError::Invalid`] for a name that is empty, longer than 256 bytes or has control
    /// characters, and for a document that is too large.
    pub async fn put(&self, name: &str, content: impl Into<bytes::Bytes>) -> Result<()> {
        let (name, content) = (name.to_owned(), content.into());
        self.run(move |inner| documents::put(inner, &name, content)).await
    }

    /// The document of a name.
    ///
    /// # Errors
    ///
    /// [`VaultError::Damaged`] if it is there and cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.run(move |inner| documents::get(inner, &name)).await
    }

    /// Removes a document. Whether there was one.
    pub async fn remove(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.run(move |inner| documents::remove(inner, &name)).await
    }

    /// The documents whose names begin so, by name.
    pub async fn documents(&self, prefix: &str) -> Result<Vec<Document>> {
        let prefix = prefix.to_owned();
        self.run(move |inner| documents::list(inner, &prefix)).await
    }

    /// All snapshots of trees and files, the oldest first.
    pub async fn list(&self) -> Result<Vec<Snapshot>> {
        self.run(|inner| {
            let all = snapshot::all(inner, |shape| shape != Shape::Document)?;
            Ok(all.iter().filter_map(snapshot::describe).collect())
        })
        .await
    }

    /// Removes snapshots. The room that they alone take is given back by later prunes. One that is
    /// not there is removed already.
    pub async fn forget(&self, ids: &[SnapshotId]) -> Result<()> {
        let ids = ids.to_vec();
        self.run(move |inner| documents::forget(inner, &ids)).await
    }

    /// Gives back room that nothing refers to any more: marks what is older than `grace`, and
    /// deletes what was marked at least `grace` ago by an earlier prune. Others may save and restore meanwhile. `grace` has to
    /// be longer than any save or restore that may be under way; a day is, and costs little.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`] if somebody else prunes.
    pub async fn prune(&self, grace: Duration) -> Result<Pruned> {
        self.run(move |inner| prune::prune(inner, grace)).await
    }

    /// Looks whether all that is stored is there, and, with `read_data`, whether it is what was
    /// stored; names what is damaged and what is lost by it.
    ///
    /// # Errors
    ///
    /// Only if it cannot be told. Damage is no error but an answer.
    pub async fn verify(&self, read_data: bool) -> Result<Verified> {
        self.run(move |inner| verify::verify(inner, read_data)).await
    }

    /// How many bytes the vault takes where it is kept.
    pub async fn size(&self) -> Result<u64> {
        self.run(|inner| {
            inner.store.size().map_err(|source| VaultError::Storage {
                doing: "list",
                path: "all files".to_owned(),
                location: inner.location.clone(),
                source,
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VaultError::Internal(error.to_string())),
    }
}
