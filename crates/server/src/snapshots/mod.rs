//! The snapshot store: where sealed layers outlive this machine's disk.

use std::sync::Arc;

use rclaude_sandbox::provider::SandboxProvider;
use rclaude_store::{Store, checkpoint::CheckpointRow};
use rclaude_types::LayerId;

/// Brings layers into the snapshot store and back.
#[derive(Debug, Clone)]
pub struct Snapshots {
    store: Store,
    provider: Arc<dyn SandboxProvider>,
}

impl Snapshots {
    /// A snapshot store for the layers of this provider.
    pub fn new(store: Store, provider: Arc<dyn SandboxProvider>) -> Self {
        Self { store, provider }
    }

    /// Whether there is one.
    pub fn available(&self) -> bool {
        false
    }

    /// Brings all that a checkpoint stands on into the snapshot store, and notes that it is there.
    pub async fn store(&self, _checkpoint: &CheckpointRow) -> Result<(), String> {
        let _ = &self.store;
        Err("there is no snapshot store".to_owned())
    }

    /// Makes sure that all of these layers are on the local disk.
    pub async fn fetch(&self, stack: &[LayerId]) -> Result<(), String> {
        let Some(layering) = self.provider.layering() else {
            return if stack.is_empty() { Ok(()) } else { Err("no layers here".to_owned()) };
        };
        for layer in stack {
            let found = layering.layer(layer).await.map_err(|error| crate::chain::chain(&error))?;
            if found.is_none() {
                return Err(format!("layer {layer} is neither here nor in the snapshot store"));
            }
        }
        Ok(())
    }
}
