//! Bringing layers back from the server's own store.

use futures::FutureExt;
use rclaude_sandbox::provider::Layering;
use rclaude_store::checkpoint::{self, LayerRow};
use rclaude_types::LayerId;
use rclaude_vault::Vault;

use super::{
    Snapshots,
    failure::Failure,
    keeping::{digest, few},
};
use crate::chain::chain;

impl Snapshots {
    /// Makes sure that all of these layers are on the local disk. Whoever asks for one that is on
    /// its way waits for it.
    pub async fn fetch(&self, stack: &[LayerId]) -> Result<(), String> {
        let _held = self.hold().await;
        self.fetch_held(stack).await
    }

    /// The same for whoever holds layers already.
    pub(super) async fn fetch_held(&self, stack: &[LayerId]) -> Result<(), String> {
        let Some(layering) = self.0.provider.layering() else {
            return if stack.is_empty() { Ok(()) } else { Err("no layers here".to_owned()) };
        };
        let mut missing = Vec::new();
        for layer in stack {
            if layering.layer(layer).await.map_err(|error| chain(&error))?.is_none() {
                missing.push(layer.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let work = missing.into_iter().map(|layer| {
            let own = self.clone();
            let fetch = async move {
                let fetched = own.fetch_one(&layer).await;
                own.0.own.note(&fetched);
                fetched.map_err(|failure| {
                    Failure::Other(format!("layer {layer} cannot be fetched: {failure}"))
                })
            };
            fetch.boxed()
        });
        few(work.collect()).await.map(drop).map_err(|failure| failure.to_string())
    }

    async fn fetch_one(&self, layer: &LayerId) -> Result<(), Failure> {
        let Some(layering) = self.0.provider.layering() else { return Ok(()) };
        let _one = self.0.layers.lock(layer).await;
        if layering.layer(layer).await?.is_some() {
            return Ok(());
        }
        let mut conn = self.0.store.read().await?;
        let row = checkpoint::stored_layer(&mut conn, layer).await?;
        drop(conn);
        let Some(row) = row else {
            let text = "it is neither on this disk nor in the snapshot store";
            return Err(Failure::Other(text.to_owned()));
        };
        let vault = self.0.own.vault().await?;
        let _slot = self.0.slots.acquire().await;
        bring(layering, &vault, &row).await
    }
}

/// Restores a layer from a vault, and makes sure that it is what was saved.
pub(super) async fn bring(
    layering: &dyn Layering,
    vault: &Vault,
    row: &LayerRow,
) -> Result<(), Failure> {
    let id = row.snapshot.parse().map_err(|_| {
        Failure::Other(format!("{:?} names no snapshot: the database is damaged", row.snapshot))
    })?;
    let draft = layering.draft(&row.id).await?;
    vault.restore(&id, &draft).await?;
    let found = digest(draft).await?.to_string();
    if found != row.digest {
        return Err(Failure::Other(format!(
            "what came back is not what was saved (digest {found}, was {})",
            row.digest
        )));
    }
    Ok(layering.finish(&row.id).await?)
}
