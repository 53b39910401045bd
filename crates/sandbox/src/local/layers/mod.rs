//! States of a sandbox's writable disk, kept as layers that never change.
//!
//! A running sandbox writes into `upper`, the top of its overlay. Sealing keeps what is there at
//! one moment under `layers/`, in the way the file system allows ([`way`]): a snapshot of the
//! whole (btrfs), or what changed since an earlier layer, sharing blocks (xfs) or copied. Such
//! layers stacked over the trees a sandbox began with show what it showed at that moment, so
//! another can start on them. `upper` itself is never touched: an overlay's directories may not
//! change under it.
//!
//! What a layer must hold is found out in [`walk`]; its docs have the reasoning. [`index`] is how
//! the next seal knows what has changed, [`content`] copies, [`build`] puts a tree together,
//! [`shelf`] keeps layers through kills and power cuts, [`seal`] is the order of events.

pub(super) mod btrfs;
mod build;
mod combine;
mod content;
mod graft;
pub(super) mod image;
mod index;
mod ladder;
mod mapped;
mod meta;
mod rights;
mod seal;
mod shelf;
mod size;
mod union;
mod walk;
pub(super) mod way;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use async_trait::async_trait;
use rclaude_types::{LayerId, SealMethod};

pub(super) use self::{meta::Meta, shelf::Shelf};
use self::{seal::Sealing, size::bytes_under};
use super::{
    freeze::with_frozen,
    protocol::{Failure, FailureClass, While as _},
    provider::{LocalProvider, known},
    sys::open_own,
};
use crate::provider::{Layering, Result, SandboxRef, Sealed};

#[async_trait]
impl Layering for LocalProvider {
    fn method(&self) -> SealMethod {
        self.inner().shelf.method
    }

    async fn prepare_seal(
        &self,
        sandbox: &SandboxRef,
        layer: &LayerId,
        since: Option<&LayerId>,
    ) -> Result<()> {
        const OPERATION: &str = "prepare a checkpoint of the sandbox";
        let id = known(sandbox, OPERATION)?;
        let (layer, since) = (layer.clone(), since.cloned());
        self.run(OPERATION, move |inner| seal::prepare(inner, &id, &layer, since.as_ref())).await
    }

    async fn seal(
        &self,
        sandbox: &SandboxRef,
        layer: &LayerId,
        since: Option<&LayerId>,
    ) -> Result<Sealed> {
        const OPERATION: &str = "make a checkpoint of the sandbox";
        let id = known(sandbox, OPERATION)?;
        let begin = {
            let (id, layer, since) = (id.clone(), layer.clone(), since.cloned());
            move |inner: &_| Sealing::begin(inner, &id, &layer, since.as_ref())
        };
        let mut sealing = self.run(OPERATION, begin).await?;
        // Only this part keeps others from the sandbox.
        let take = self.change(OPERATION, id.clone(), move |inner, id| {
            let (taken, frozen) = with_frozen(inner, id, || sealing.take(inner, id))?;
            taken.during("look at the sandbox's files")?;
            Ok((sealing, frozen))
        });
        let (sealing, frozen) = match take.await {
            Ok(taken) => taken,
            Err(error) => {
                self.remove_layer(layer).await?;
                return Err(error);
            }
        };
        let made = layer.clone();
        self.run(OPERATION, move |inner| {
            let built = sealing.build(inner, &id).during("put the layer together");
            let built = built.and_then(|kept| inner.shelf.complete(&made).map(|()| kept));
            if built.is_err() {
                inner.shelf.remove(&made)?;
            }
            let kept = built?;
            Ok(Sealed { whole: kept.whole, bytes: kept.bytes, frozen })
        })
        .await
    }

    async fn flatten(&self, layers: &[LayerId], into: &LayerId) -> Result<()> {
        let (layers, into) = (layers.to_vec(), into.clone());
        self.run("flatten layers", move |inner| combine::flatten(inner, &layers, &into)).await
    }

    async fn graft(
        &self,
        from: &[LayerId],
        over: &[LayerId],
        paths: &[PathBuf],
        into: &LayerId,
    ) -> Result<()> {
        let (from, over, paths, into) =
            (from.to_vec(), over.to_vec(), paths.to_vec(), into.clone());
        let work = move |inner: &_| combine::graft(inner, &from, &over, &paths, &into);
        self.run("take parts of a checkpoint", work).await
    }

    async fn layer(&self, layer: &LayerId) -> Result<Option<PathBuf>> {
        let layer = layer.clone();
        self.run("find a layer", move |inner| Ok(inner.shelf.find(&layer).map(|dir| dir.tree())))
            .await
    }

    async fn draft(&self, layer: &LayerId) -> Result<PathBuf> {
        let layer = layer.clone();
        self.run("make room for a layer", move |inner| {
            let tree = inner.shelf.new_draft(&layer)?.tree();
            fs::create_dir(&tree).during("make room for the layer")?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&tree, mode).during("make room for the layer")?;
            Ok(tree)
        })
        .await
    }

    async fn finish(&self, layer: &LayerId) -> Result<()> {
        let layer = layer.clone();
        self.run("finish a layer", move |inner| {
            if inner.shelf.draft(&layer).tree().exists() {
                inner.shelf.complete(&layer)
            } else if inner.shelf.find(&layer).is_some() {
                Ok(())
            } else {
                let text = format!("the layer {layer} was never begun, or removed");
                Err(Failure::new(FailureClass::Rejected, text))
            }
        })
        .await
    }

    async fn layers(&self, sizes: bool) -> Result<Vec<(LayerId, u64)>> {
        self.run("list layers", move |inner| {
            inner.shelf.list(sizes).during("read the directory of layers")
        })
        .await
    }

    async fn remove_layer(&self, layer: &LayerId) -> Result<()> {
        let layer = layer.clone();
        self.run("remove a layer", move |inner| {
            let slot = inner.shelf.slot(&layer);
            // Whoever copies ahead for it comes to an end first.
            let mut prepared = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *prepared = None;
            inner.shelf.forget_slot(&layer);
            inner.shelf.remove(&layer)
        })
        .await
    }

    async fn disk_bytes(&self, sandbox: &SandboxRef) -> Result<u64> {
        const OPERATION: &str = "measure the sandbox's disk";
        let id = known(sandbox, OPERATION)?;
        self.run(OPERATION, move |inner| {
            let measure = || bytes_under(open_own(&inner.engine.sandbox(&id).upper())?);
            measure().during("read the sandbox's disk")
        })
        .await
    }
}
