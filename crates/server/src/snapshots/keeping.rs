//! Bringing layers into the server's own store.

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use rclaude_store::{
    StoreError,
    checkpoint::{self, CheckpointRow, LayerRow},
};
use rclaude_types::LayerId;
use rclaude_vault::{TreeDigest, Vault};

use super::{AT_ONCE, Snapshots, failure::Failure};

impl Snapshots {
    /// Brings all that a checkpoint stands on into the snapshot store, and notes that it is there.
    /// Safe to repeat, and to interrupt anywhere.
    pub async fn store(&self, checkpoint: &CheckpointRow) -> Result<(), String> {
        let stored = self.store_all(checkpoint).await;
        self.0.own.note(&stored);
        stored.map_err(|failure| failure.to_string())
    }

    pub(super) async fn store_all(&self, row: &CheckpointRow) -> Result<(), Failure> {
        // Lowest first: what is above often builds on it, and finds it there.
        let layers = row.stack.iter().rev().cloned().map(|layer| {
            let (own, session) = (self.clone(), row.checkpoint.session.clone());
            async move { own.keep(&layer, session.as_str()).await.map(drop) }.boxed()
        });
        few(layers.collect()).await?;
        let (id, stack) = (row.checkpoint.id.clone(), row.stack.clone());
        let note = self.0.store.write(async move |tx| match checkpoint::get(tx, &id).await {
            // It may stand on other layers by now, which are not there.
            Ok(now) if now.stack == stack => checkpoint::set_stored(tx, &id).await,
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        });
        Ok(note.await?)
    }

    /// Brings one layer into the server's own store, unless it is there.
    /// With how much the store grew.
    pub(super) async fn keep(
        &self,
        layer: &LayerId,
        label: &str,
    ) -> Result<(LayerRow, u64), Failure> {
        let inner = &*self.0;
        let _saving = inner.saving.read().await;
        let _one = inner.layers.lock(layer).await;
        let mut conn = inner.store.read().await?;
        let known = checkpoint::stored_layer(&mut conn, layer).await?;
        drop(conn);
        if let Some(row) = known {
            return Ok((row, 0));
        }
        let vault = inner.own.vault().await?;
        let (row, added) = self.save(&vault, layer, label).await?;
        let (noted, now) = (row.clone(), inner.clock.now());
        inner.store.write(async move |tx| checkpoint::put_layer(tx, &noted, now).await).await?;
        Ok((row, added))
    }

    /// Saves a layer of the local disk in a vault.
    pub(super) async fn save(
        &self,
        vault: &Vault,
        layer: &LayerId,
        label: &str,
    ) -> Result<(LayerRow, u64), Failure> {
        let inner = &*self.0;
        let layering =
            inner.provider.layering().ok_or_else(|| Failure::Other("no layers here".to_owned()))?;
        let Some(tree) = layering.layer(layer).await? else {
            return Err(Failure::Other(format!("layer {layer} is not on this disk")));
        };
        let _slot = inner.slots.acquire().await;
        let saved = vault.save(&tree, label).await?;
        let digest = digest(tree).await?;
        let row = LayerRow {
            id: layer.clone(),
            snapshot: saved.id.to_string(),
            digest: digest.to_string(),
            bytes: saved.total_bytes,
        };
        Ok((row, saved.added_bytes))
    }
}

/// A tree's digest, off the runtime's threads.
pub(super) async fn digest(tree: std::path::PathBuf) -> Result<TreeDigest, Failure> {
    match tokio::task::spawn_blocking(move || rclaude_vault::digest(&tree)).await {
        Ok(digest) => Ok(digest?),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

/// Does these, a few at a time, and answers in their order; the first failure ends it.
pub(super) async fn few<T: Send + 'static>(work: Vec<Work<T>>) -> Result<Vec<T>, Failure> {
    stream::iter(work).buffered(AT_ONCE).try_collect().await
}

/// Something to be done among others.
pub(super) type Work<T> = BoxFuture<'static, Result<T, Failure>>;
