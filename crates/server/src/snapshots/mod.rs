//! The snapshot store: where states outlive this machine's disk, and what is made of it.
//!
//! Sealed layers never change, so each is brought there once ([`keeping`]) and back whenever it is
//! missing here ([`fetching`]). A [backup](backup) is such layers, a copy of the database that
//! refers to them, and a manifest that is written last; another machine [starts](restore) from
//! one. An [export](export) is one session's state as one file, a small vault of its own.
//!
//! The table `layer` says what this server's own store holds. It is written after the layer is
//! there, so what it says is true after any crash; a layer that was saved and not noted is saved
//! again, which costs next to nothing, and forgotten by the next [prune](space).
//!
//! Whoever relies on layers that no row may speak of any more in a moment (a backup reads a copy of
//! the database that is already old) [holds](Snapshots::hold) them: nothing is swept meanwhile.

pub(crate) mod background;
pub(crate) mod backup;
mod carried;
pub(crate) mod export;
mod failure;
mod fetching;
pub(crate) mod import;
mod keeping;
mod keyring;
mod locks;
mod manifest;
mod options;
mod place;
pub(crate) mod restore;
mod scratch;
pub(crate) mod space;
mod verify;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rclaude_sandbox::provider::SandboxProvider;
use rclaude_store::Store;
use rclaude_types::{HostCheck, LayerId};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore};

pub use keyring::{KEYRING, read_key_file};
pub use options::{Location, S3Access, Secret, SnapshotOptions};
pub use restore::{Progress, RestoreKey, RestoreOptions, Restored, restore};

use self::{locks::Locks, place::Place, scratch::Scratch};
use crate::{clock::Clock, repo::RepoCache};

/// How many layers are saved or restored at once.
const AT_ONCE: usize = 4;
/// How long whoever wants to remove layers waits for those who hold them.
const COMING: Duration = Duration::from_secs(10);

/// What a snapshot store is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) provider: Arc<dyn SandboxProvider>,
    pub(crate) repos: RepoCache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) data_dir: PathBuf,
    pub(crate) options: SnapshotOptions,
}

/// Brings layers into the snapshot store and back, makes backups. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    provider: Arc<dyn SandboxProvider>,
    repos: RepoCache,
    clock: Arc<dyn Clock>,
    data_dir: PathBuf,
    options: SnapshotOptions,
    own: Place,
    scratch: Scratch,
    /// One task at a time brings a layer to or from the store.
    layers: Locks<LayerId>,
    slots: Semaphore,
    /// Shared by those who rely on layers, taken alone by whoever removes some. Nobody takes it
    /// twice: whoever wants it alone keeps the next from coming in.
    gate: RwLock<()>,
    /// Shared by those who save a layer and note it, taken alone (after the gate) by whoever forgets
    /// what is not noted.
    saving: RwLock<()>,
    /// One backup at a time.
    backing_up: Mutex<()>,
}

impl Snapshots {
    /// A snapshot store for the layers of a provider. Nothing is opened until it is needed.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { store, provider, repos, clock, data_dir, options } = parts;
        let own = Place::own(&data_dir, &options, store.clone(), clock.clone(), provider.clone());
        Self(Arc::new(Inner {
            own,
            scratch: Scratch::new(&data_dir),
            store,
            provider,
            repos,
            clock,
            data_dir,
            options,
            layers: Locks::default(),
            slots: Semaphore::new(AT_ONCE),
            gate: RwLock::default(),
            saving: RwLock::default(),
            backing_up: Mutex::default(),
        }))
    }

    /// Whether states can be brought away from this machine's disk. That the store can be reached
    /// at this moment is another matter.
    pub fn available(&self) -> bool {
        self.0.provider.layering().is_some()
    }

    /// Keeps all layers that are here now from being removed until this is dropped.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.0.gate.read().await
    }

    /// Leave to remove layers, unless somebody holds them for longer than one waits.
    pub(crate) async fn alone(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        tokio::time::timeout(COMING, self.0.gate.write()).await.ok()
    }

    /// What `rclaude status` says of it; nothing while all is well.
    pub(crate) fn check(&self) -> Option<HostCheck> {
        self.0.own.check()
    }
}
