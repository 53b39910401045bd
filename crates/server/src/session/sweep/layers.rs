//! Layers: automatic checkpoints beyond those that are kept go, layers that nothing stands on go,
//! and stacks that have grown deep become one layer.
//!
//! A layer is needed as long as a row speaks of it. It is made before its row, so a young one that
//! no row speaks of is left for a later round.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rclaude_sandbox::provider::Layering;
use rclaude_store::{checkpoint, sandbox, session::SessionRow};
use rclaude_types::{CheckpointId, LayerId, Phase, SessionId, Timestamp};

use crate::{
    chain::chain,
    session::{engine::Engine, policy::elapsed},
};

/// A layer this young may belong to a checkpoint that is being made.
const FRESH: Duration = Duration::from_mins(10);
/// Layers a state may stand on before they are made one. Each costs every first look at a file.
const DEEP: usize = 32;

pub(super) async fn round(engine: &Engine, live: &[SessionRow]) -> Result<(), String> {
    let provider = engine.provider.clone();
    let Some(layering) = provider.layering() else { return Ok(()) };
    for row in live {
        thin_out(engine, &row.id).await?;
        flatten(engine, layering, &row.id).await?;
    }
    // Not while somebody relies on layers that no row may speak of any more in a moment.
    let Some(_alone) = engine.snapshots.alone().await else { return Ok(()) };
    for layer in idle(engine, live, &HashSet::new()).await? {
        layering.remove_layer(&layer).await.map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// The layers on the local disk that nothing stands on, as if the checkpoints `without` were gone.
/// To remove them one has to be [alone](crate::snapshots::Snapshots::alone) with them.
pub(crate) async fn idle(
    engine: &Engine,
    live: &[SessionRow],
    without: &HashSet<CheckpointId>,
) -> Result<Vec<LayerId>, String> {
    let Some(layering) = engine.provider.layering() else { return Ok(Vec::new()) };
    let (needed, now) = (needed(engine, live, without).await?, engine.now());
    let there = layering.layers(false).await.map_err(|error| chain(&error))?;
    let young = |layer: &LayerId| made_at(layer).is_some_and(|made| elapsed(made, now) < FRESH);
    let layers = there.into_iter().map(|(layer, _)| layer);
    Ok(layers.filter(|layer| !needed.contains(layer) && !young(layer)).collect())
}

/// The layers that have to be on the local disk.
async fn needed(
    engine: &Engine,
    live: &[SessionRow],
    without: &HashSet<CheckpointId>,
) -> Result<HashSet<LayerId>, String> {
    let store = |error: rclaude_store::StoreError| error.to_string();
    let mut conn = engine.store.read().await.map_err(store)?;
    let mut archived = HashMap::new();
    for row in live {
        let phase = sandbox::current(&mut conn, &row.id).await.map_err(store)?.phase;
        archived.insert(&row.id, phase == Phase::Archived);
    }
    let mut needed: HashSet<_> =
        sandbox::layers_in_use(&mut conn).await.map_err(store)?.into_iter().collect();
    needed.extend(checkpoint::wanted_layers(&mut conn).await.map_err(store)?);
    let stacks = checkpoint::stacks(&mut conn).await.map_err(store)?;
    for stack in stacks.into_iter().filter(|stack| !without.contains(&stack.id)) {
        // What lies in the snapshot store alone does so to leave this disk.
        if !(stack.stored && archived.get(&stack.session).is_some_and(|archived| *archived)) {
            needed.extend(stack.layers);
        }
    }
    Ok(needed)
}

/// Forgets automatic checkpoints beyond those that are kept.
async fn thin_out(engine: &Engine, session: &SessionId) -> Result<(), String> {
    let store = |error: rclaude_store::StoreError| error.to_string();
    let mut conn = engine.store.read().await.map_err(store)?;
    // At least one: it is what the session comes back with should its sandbox vanish.
    let keep = engine.policy.keep.max(1);
    let surplus = checkpoint::surplus(&mut conn, session, keep).await.map_err(store)?;
    drop(conn);
    if surplus.is_empty() {
        return Ok(());
    }
    let forget = engine.store.write(async move |tx| {
        for row in &surplus {
            checkpoint::remove(tx, &row.checkpoint.id).await?;
        }
        Ok(())
    });
    forget.await.map_err(store)
}

/// Makes one layer of the newest state's many.
async fn flatten(
    engine: &Engine,
    layering: &dyn Layering,
    session: &SessionId,
) -> Result<(), String> {
    let store = |error: rclaude_store::StoreError| error.to_string();
    let mut conn = engine.store.read().await.map_err(store)?;
    let latest = checkpoint::latest(&mut conn, session).await.map_err(store)?;
    drop(conn);
    let Some(latest) = latest.filter(|row| row.stack.len() > DEEP) else { return Ok(()) };
    for layer in &latest.stack {
        // Archived: it is as deep as it is until it comes back.
        if layering.layer(layer).await.map_err(|error| chain(&error))?.is_none() {
            return Ok(());
        }
    }
    let flat = LayerId::generate();
    layering.flatten(&latest.stack, &flat).await.map_err(|error| chain(&error))?;
    let id = latest.checkpoint.id;
    let write = engine.store.write(async move |tx| checkpoint::set_stack(tx, &id, &[flat]).await);
    write.await.map_err(store)
}

/// When a layer's id was made; `None` for an id that does not say.
fn made_at(layer: &LayerId) -> Option<Timestamp> {
    let digits = layer.as_str().split_once('_')?.1;
    let (seconds, nanos) = uuid::Uuid::try_parse(digits).ok()?.get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()? * 1_000_000 + i64::from(nanos) / 1000;
    Some(Timestamp::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn a_layers_id_tells_when_it_was_made() {
        let made = made_at(&LayerId::generate()).unwrap();
        let now = SystemClock::default().now();
        assert!(elapsed(made, now) < Duration::from_mins(1), "{made} {now}");
        let old: LayerId = "lay_01890a5d7c1f7abc8def0123456789ab".parse().unwrap();
        assert!(elapsed(made_at(&old).unwrap(), now) > FRESH);
    }
}
