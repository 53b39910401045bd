//! A vault that is opened when it is first needed, and looked for again when it was away.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
};

use rclaude_store::{Store, checkpoint, meta};
use rclaude_types::{HostCheck, HostCheckLevel, Timestamp};
use rclaude_vault::{Location, Vault, VaultError};
use tokio::sync::Mutex;

use super::{failure::Failure, options::SnapshotOptions};
use crate::{clock::Clock, config::write_private};

/// The document in a vault that tells it from all others.
const IDENTITY: &str = "identity";
/// The word in the database that says which vault the table `layer` speaks of.
const KNOWN: &str = "snapshots.vault";
/// The word in the database that says where that vault is, if it is not where it is by default.
pub(super) const WHERE: &str = "snapshots.location";
/// Where the server's own store is unless it is told otherwise.
pub(super) const SNAPSHOTS: &str = "snapshots";

/// The server's own store.
#[derive(Debug)]
pub(super) struct Place {
    data_dir: PathBuf,
    options: SnapshotOptions,
    store: Store,
    clock: Arc<dyn Clock>,
    open: Mutex<Option<Vault>>,
    outage: SyncMutex<Option<Outage>>,
}

#[derive(Debug, Clone)]
struct Outage {
    since: Timestamp,
    why: String,
}

impl Place {
    pub(super) fn own(
        data_dir: &Path,
        options: &SnapshotOptions,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            options: options.clone(),
            store,
            clock,
            open: Mutex::default(),
            outage: SyncMutex::default(),
        }
    }

    /// Where it is.
    pub(super) async fn location(&self) -> Result<Location, Failure> {
        if let Some(location) = &self.options.location {
            return Ok(location.clone());
        }
        let mut conn = self.store.read().await?;
        Ok(match meta::get(&mut conn, WHERE).await? {
            Some(text) => self.options.place(&text)?,
            None => Location::Dir(self.data_dir.join(SNAPSHOTS)),
        })
    }

    /// The vault, open. Made if there is none.
    pub(super) async fn vault(&self) -> Result<Vault, Failure> {
        let mut open = self.open.lock().await;
        if let Some(vault) = &*open {
            return Ok(vault.clone());
        }
        let opened = self.open().await;
        self.note(&opened);
        let vault = opened?;
        *open = Some(vault.clone());
        Ok(vault)
    }

    async fn open(&self) -> Result<Vault, Failure> {
        let location = self.location().await?;
        let (options, data_dir) = (self.options.clone(), self.data_dir.clone());
        let key = tokio::task::spawn_blocking(move || options.key(&data_dir)).await;
        let key = key
            .map_err(std::io::Error::other)
            .and_then(|key| key)
            .map_err(Failure::disk("the keyring cannot be used"))?;
        let vault = Vault::open_or_create(&location, &key).await?;
        self.recognise(&vault).await?;
        Ok(vault)
    }

    /// Makes sure that the table `layer` speaks of this vault. What another one held is forgotten
    /// where the layer is not there: it is saved here when it is needed.
    async fn recognise(&self, vault: &Vault) -> Result<(), Failure> {
        let identity = match vault.get(IDENTITY).await? {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => {
                let identity = crate::auth::random_hex();
                vault.put(IDENTITY, identity.clone().into_bytes()).await?;
                identity
            }
        };
        let mut conn = self.store.read().await?;
        let known = meta::get(&mut conn, KNOWN).await?;
        let rows = checkpoint::stored_layers(&mut conn).await?;
        let stacks = checkpoint::stacks(&mut conn).await?;
        drop(conn);
        if known.as_ref() == Some(&identity) {
            return Ok(());
        }
        let held: HashSet<String> =
            vault.list().await?.into_iter().map(|snapshot| snapshot.id.to_string()).collect();
        let lost: Vec<_> = rows.into_iter().filter(|row| !held.contains(&row.snapshot)).collect();
        if !lost.is_empty() {
            tracing::warn!(layers = lost.len(), "the snapshot store is another than before");
        }
        let write = self.store.write(async move |tx| {
            for row in &lost {
                checkpoint::remove_layer(tx, &row.id).await?;
                for stack in stacks.iter().filter(|stack| stack.layers.contains(&row.id)) {
                    checkpoint::set_unstored(tx, &stack.id).await?;
                }
            }
            meta::set(tx, KNOWN, &identity).await
        });
        Ok(write.await?)
    }

    /// Learns from how a call of the vault went whether it is away.
    pub(super) fn note<T>(&self, result: &Result<T, Failure>) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Err(Failure::Vault(error)) if is_away(error) => {
                if outage.is_none() {
                    tracing::warn!(%error, "the snapshot store is not available");
                }
                let since = outage.as_ref().map_or_else(|| self.clock.now(), |outage| outage.since);
                *outage = Some(Outage { since, why: error.to_string() });
            }
            Ok(_) => {
                if let Some(outage) = outage.take() {
                    tracing::info!(since = %outage.since, "the snapshot store is available again");
                }
            }
            Err(_) => {}
        }
    }

    /// What `rclaude status` says of it, where it is away.
    pub(super) fn check(&self) -> Option<HostCheck> {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(HostCheck {
            name: "snapshots".to_owned(),
            level: HostCheckLevel::Weaker,
            detail: format!("snapshots unavailable since {}: {}", outage.since, outage.why),
            fix: Some(
                "see to it that the snapshot store can be reached; what waits for it goes on by \
                 itself"
                    .to_owned(),
            ),
        })
    }
}

/// Whether an error means that the store as such cannot be used now.
fn is_away(error: &VaultError) -> bool {
    matches!(
        error,
        VaultError::Storage { .. }
            | VaultError::WrongKey { .. }
            | VaultError::NewerFormat { .. }
            | VaultError::Damaged { .. }
            | VaultError::Invalid(_)
    )
}

/// Notes in a restored data directory what its table `layer` speaks of.
pub(super) async fn identify(vault: &Vault) -> Result<Option<String>, VaultError> {
    let bytes = vault.get(IDENTITY).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The words of the database that say which vault its layers are in.
pub(super) const fn word() -> &'static str {
    KNOWN
}

/// Writes a file for its owner alone, off the runtime's threads.
pub(super) async fn write_file(path: PathBuf, content: Vec<u8>) -> std::io::Result<()> {
    let write = tokio::task::spawn_blocking(move || write_private(&path, &content));
    write.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
