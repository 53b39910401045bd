//! A vault that is opened when it is first needed, and looked for again when it was away.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
};

use rclaude_sandbox::provider::SandboxProvider;
use rclaude_store::{Store, checkpoint, meta};
use rclaude_types::{HostCheck, HostCheckLevel, Timestamp};
use rclaude_vault::{Location, Vault, VaultError};
use tokio::sync::Mutex;

use super::{failure::Failure, options::SnapshotOptions};
use crate::clock::Clock;

/// The document in a vault that tells it from all others.
const IDENTITY: &str = "identity";
/// The word in the database that says which vault the table `layer` speaks of.
pub(super) const KNOWN: &str = "snapshots.vault";
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
    provider: Arc<dyn SandboxProvider>,
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
        provider: Arc<dyn SandboxProvider>,
    ) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            options: options.clone(),
            store,
            clock,
            provider,
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

    /// Makes sure that the table `layer` speaks of this vault. What another one holds is forgotten
    /// where the layer is here as well: it is saved again when it is needed. Of what is there
    /// alone the database still says so, should that store come back.
    async fn recognise(&self, vault: &Vault) -> Result<(), Failure> {
        let identity = if let Some(identity) = identify(vault).await? {
            identity
        } else {
            let identity = crate::auth::random_hex();
            vault.put(IDENTITY, identity.clone().into_bytes()).await?;
            identity
        };
        let mut conn = self.store.read().await?;
        if meta::get(&mut conn, KNOWN).await?.as_ref() == Some(&identity) {
            return Ok(());
        }
        let rows = checkpoint::stored_layers(&mut conn).await?;
        let stacks = checkpoint::stacks(&mut conn).await?;
        drop(conn);
        let held: HashSet<String> =
            vault.list().await?.into_iter().map(|snapshot| snapshot.id.to_string()).collect();
        let (mut here, mut elsewhere) = (Vec::new(), 0);
        for row in rows.into_iter().filter(|row| !held.contains(&row.snapshot)) {
            let is_here = match self.provider.layering() {
                Some(layering) => layering.layer(&row.id).await?.is_some(),
                None => false,
            };
            if is_here {
                here.push(row.id);
            } else {
                elsewhere += 1;
            }
        }
        if elsewhere > 0 {
            tracing::error!(
                layers = elsewhere,
                "sessions lie in another snapshot store than this: serve with that one to wake them"
            );
        }
        let write = self.store.write(async move |tx| {
            for layer in &here {
                checkpoint::remove_layer(tx, layer).await?;
                for stack in stacks.iter().filter(|stack| stack.layers.contains(layer)) {
                    checkpoint::set_unstored(tx, &stack.id).await?;
                }
            }
            if elsewhere == 0 { meta::set(tx, KNOWN, &identity).await } else { Ok(()) }
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

/// What tells a vault from all others, once a server has kept something in it.
pub(super) async fn identify(vault: &Vault) -> Result<Option<String>, VaultError> {
    let bytes = vault.get(IDENTITY).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
