//! The heartbeat of the usage clock: sandboxes that run are noted to run still.

use std::{sync::Arc, time::Duration};

use rclaude_store::clock;

use super::engine::Engine;

/// How often. What passed since the last beat is all that a crash of the host leaves uncounted.
const PERIOD: Duration = Duration::from_secs(15);

/// Beats until the server goes down.
pub(crate) async fn run(engine: Arc<Engine>) {
    while engine.cancel.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        let (running, now) = (engine.live.linked(), engine.now());
        if running.is_empty() {
            continue;
        }
        let beat = engine.store.write(async move |tx| clock::beat(tx, &running, now).await);
        if let Err(error) = beat.await {
            tracing::warn!(%error, "a heartbeat was not written");
        }
    }
}
