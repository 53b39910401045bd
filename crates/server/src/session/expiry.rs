//! What becomes of sandboxes whose lease is up.
//!
//! One task for all: it sleeps until the next lease ends, or until somebody changes one. What it
//! does is one transaction per sandbox that looks again first, so an extension that came in the
//! last moment counts. After a restart of the server it finds what ended meanwhile at once.

use std::{sync::Arc, time::Duration};

use rclaude_store::{
    Result, StoreError,
    lease::{self, AtEnd},
    session,
};
use rclaude_types::{Desired, SessionId};

use super::{engine::Engine, policy};

/// How long it sleeps at most: a clock that is set is noticed by then.
const LONGEST: Duration = Duration::from_mins(1);
/// How long it waits when the store cannot be read.
const AGAIN: Duration = Duration::from_secs(1);
/// Why such a sandbox is wanted set aside.
const WHY: &str = "ttl";

/// Runs until the server stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let cancel = engine.cancel.clone();
    let work = async {
        loop {
            let wait = match end_due(&engine).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!(%error, "leases that are up wait");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = engine.leases.notified() => {}
            }
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// Ends what is due; how long until there may be more.
async fn end_due(engine: &Arc<Engine>) -> Result<Duration> {
    loop {
        let mut conn = engine.store.read().await?;
        let due = lease::due(&mut conn, engine.now()).await?;
        if due.is_empty() {
            let next = lease::next(&mut conn).await?;
            let wait = next.map_or(LONGEST, |next| policy::elapsed(engine.now(), next));
            return Ok(wait.min(LONGEST));
        }
        drop(conn);
        for id in due {
            end(engine, &id).await?;
        }
    }
}

async fn end(engine: &Arc<Engine>, id: &SessionId) -> Result<()> {
    let (session, now) = (id.clone(), engine.now());
    engine
        .commit(id, async move |tx, _| {
            let lease = lease::get(tx, &session).await?;
            if !lease.armed || lease.ends_at > now {
                return Ok(());
            }
            lease::set_end(tx, &session, lease.ends_at, false).await?;
            // What its owner set aside, or deleted, has no end.
            if session::get(tx, &session).await?.desired != Desired::Running {
                return Ok(());
            }
            let desired = match lease.at_end {
                AtEnd::Freeze => Desired::Paused,
                AtEnd::Hibernate => Desired::Hibernated,
                AtEnd::Delete => Desired::Deleted,
            };
            tracing::info!(session.id = %session, ?desired, "its lease is up");
            session::set_desired(tx, &session, desired, Some(WHY), now).await.map(drop)
        })
        .await?;
    if let Some(handle) = engine.live.get(id) {
        handle.nudge();
    }
    Ok::<_, StoreError>(())
}
