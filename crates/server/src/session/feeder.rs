//! Saying to the agent what is stored for it.
//!
//! A task of its own: an agent that does not read must not keep its actor from anything else.
//! Sending twice is harmless, because the daemon drops what it already has.

use std::{sync::Arc, time::Duration};

use rclaude_sandbox::agentd;
use rclaude_store::{Store, agent as agent_rows};
use rclaude_types::{ExecId, SessionId};
use tokio::sync::Notify;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Time before another attempt at something that failed. A lost connection ends the feeder's
/// process's reading, and with it the feeder, anyway.
const PAUSE: Duration = Duration::from_secs(1);

/// Feeds one process of the agent until dropped.
#[derive(Debug)]
pub(super) struct Feeder {
    more: Arc<Notify>,
    _guard: DropGuard,
}

/// Whom to feed.
#[derive(Debug)]
pub(super) struct Mouth {
    pub(super) session: SessionId,
    pub(super) exec: ExecId,
    pub(super) client: agentd::Client,
    /// Input before this offset has been accepted by the daemon.
    pub(super) accepted: u64,
}

impl Feeder {
    /// Sends all that is stored, then what is stored when it is [told](Self::more).
    pub(super) fn start(tracker: &TaskTracker, store: Store, mouth: Mouth) -> Self {
        let (more, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (news, stopped) = (more.clone(), stop.clone());
        tracker.spawn(async move { stopped.run_until_cancelled(feed(store, mouth, &news)).await });
        Self { more, _guard: stop.drop_guard() }
    }

    /// Something more may be stored.
    pub(super) fn more(&self) {
        self.more.notify_one();
    }
}

async fn feed(store: Store, mut mouth: Mouth, more: &Notify) {
    loop {
        match mouth.take_in(&store).await {
            Ok(()) => more.notified().await,
            // The process has ended: its output is about to say so.
            Err(Trouble::Daemon(agentd::Error::Refused(_))) => return,
            Err(trouble) => {
                tracing::debug!(session.id = %mouth.session, ?trouble, "input waits");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What may go wrong.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] rclaude_store::StoreError),
    #[error(transparent)]
    Daemon(#[from] agentd::Error),
}

impl Mouth {
    /// Sends all that is stored and not accepted yet; waits while the process does not read.
    async fn take_in(&mut self, store: &Store) -> Result<(), Trouble> {
        let mut conn = store.read().await?;
        let pieces = agent_rows::inputs(&mut conn, &self.session, self.accepted).await?;
        drop(conn);
        for piece in pieces {
            let sent = self.client.stdin(&self.exec, piece.offset, piece.data.into(), false);
            self.accepted = sent.await?.accepted;
        }
        Ok(())
    }
}
