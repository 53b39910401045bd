//! Housekeeping that belongs to no session's actor: sandboxes that were replaced, layers, checkouts
//! and idempotency keys that nobody needs any more. Idempotent and without input; a failure is tried
//! again with the next round.

mod layers;

use std::{collections::HashSet, sync::Arc, time::Duration};

use rclaude_sandbox::provider::SandboxRef;
use rclaude_store::{idempotency, sandbox, session};
use rclaude_types::{Phase, Timestamp};

pub(crate) use self::layers::idle as idle_layers;
use super::engine::Engine;
use crate::{chain::chain, crash, repo::Checkout};

/// How often.
const PERIOD: Duration = Duration::from_mins(10);
/// A checkout given out this lately may belong to a session that is being made.
const FRESH: Duration = Duration::from_mins(10);

/// Sweeps now and then, until the server goes down.
pub(crate) async fn run(engine: Arc<Engine>) {
    let cancel = engine.cancel.clone();
    let rounds = async {
        loop {
            if let Err(error) = round(&engine).await {
                tracing::warn!(error, "a sweep was not finished");
            }
            // Sooner when there is something to do: a machine that was replaced still works.
            let _ = tokio::time::timeout(PERIOD, engine.sweep.notified()).await;
        }
    };
    cancel.run_until_cancelled(rounds).await;
}

async fn round(engine: &Engine) -> Result<(), String> {
    let store = |error: rclaude_store::StoreError| error.to_string();
    let now = engine.now();
    engine.store.write(async move |tx| idempotency::expire(tx, now).await).await.map_err(store)?;

    let mut conn = engine.store.read().await.map_err(store)?;
    let replaced = sandbox::to_destroy(&mut conn).await.map_err(store)?;
    let live = session::list_live(&mut conn).await.map_err(store)?;
    let mut known = HashSet::new();
    for row in &live {
        let rows = sandbox::list(&mut conn, &row.id).await.map_err(store)?;
        known.extend(rows.into_iter().map(|row| row.id));
    }
    drop(conn);
    for row in replaced {
        let id = row.id.clone();
        // The actor of a session that is being deleted may be at it already.
        if let Err(error) = destroy(engine, row).await {
            tracing::info!(sandbox.id = %id, error, "left for the next sweep");
        }
    }

    let in_use = live
        .iter()
        .filter_map(|row| serde_json::from_value::<Checkout>(row.checkout.clone()?).ok());
    let in_use: Vec<_> = in_use.collect();
    let fresh = i64::try_from(FRESH.as_micros()).unwrap_or(i64::MAX);
    let unused_since = Timestamp::from_micros(now.as_micros() - fresh);
    engine.repos.prune(&in_use, unused_since).await.map_err(|error| error.to_string())?;

    layers::round(engine, &live).await?;

    // One that this database does not know may hold somebody's work (an older backup was put
    // back, say): it is named, never removed.
    let found = engine.provider.list().await.map_err(|error| chain(&error))?;
    for (id, _, seen) in found.into_iter().filter(|(id, ..)| !known.contains(id)) {
        // It may have been made since.
        let mut conn = engine.store.read().await.map_err(store)?;
        let row = sandbox::get(&mut conn, &id).await;
        if row.is_ok_and(|row| row.phase != Phase::Destroyed) {
            continue;
        }
        tracing::warn!(sandbox.id = %id, ?seen, "a sandbox that belongs to no session");
    }
    Ok(())
}

/// Ends a sandbox whose session has another one.
async fn destroy(engine: &Engine, mut row: sandbox::SandboxRow) -> Result<(), String> {
    for next in [Phase::Destroying, Phase::Destroyed] {
        if next == Phase::Destroyed {
            let found = engine.provider.find(&row.id).await.map_err(|error| chain(&error))?;
            let stored = row.provider_ref.clone().map(SandboxRef);
            if let Some(reference) = found.or(stored) {
                crash::point("before sweep");
                engine.provider.destroy(&reference).await.map_err(|error| chain(&error))?;
                crash::point("after sweep");
            }
        }
        if row.phase == next {
            continue;
        }
        let (id, generation, now) = (row.id.clone(), row.generation, engine.now());
        let write = engine
            .store
            .write(async move |tx| sandbox::set_phase(tx, &id, generation, next, None, now).await);
        row = write.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
