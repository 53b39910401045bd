//! What the API calls. Each change is one transaction, one nudge to the session's actor, and an
//! answer at once; what becomes of it is told by the session's log.

mod approvals;
mod execs;
mod files;
mod problems;
mod sessions;
mod turns;
mod view;

use std::{sync::Arc, time::Duration};

use rclaude_sandbox::agentd;
use rclaude_store::session;
use rclaude_types::{Desired, ErrorCode, Phase, Problem, SessionId};

use super::{engine::Engine, live::Handle};
use problems::from_store;

/// Result of a manager's call; a problem is ready for its caller to read.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// How long a command or a file waits for its session's sandbox to come up.
const WAKING: Duration = Duration::from_secs(60);

/// Finds, makes and steers sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionManager {
    engine: Arc<Engine>,
}

/// Which sessions a list wants.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// After this one (the cursor of the page before).
    pub cursor: Option<String>,
    /// At most so many, 1 to 200.
    pub limit: u32,
}

/// A request's `Idempotency-Key` with a digest of the request it came with.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key, scoped to the caller.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub digest: [u8; 32],
}

impl SessionManager {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Starts an actor for every session that exists: what was running goes on.
    pub(crate) async fn recover(&self) -> Result<usize> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let live = session::list_live(&mut conn).await.map_err(from_store)?;
        for row in &live {
            self.engine.wake(&row.id, row.last_seq);
        }
        Ok(live.len())
    }

    /// The session's handle, its actor started if it had none.
    async fn handle(&self, id: &SessionId) -> Result<Arc<Handle>> {
        if let Some(handle) = self.engine.live.get(id) {
            return Ok(handle);
        }
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        if row.desired == Desired::Deleted {
            return Err(not_found(id));
        }
        Ok(self.engine.wake(id, row.last_seq))
    }

    /// The daemon of a session that is up, waking one that is paused.
    async fn client(&self, id: &SessionId) -> Result<agentd::Client> {
        let handle = self.handle(id).await?;
        let mut link = handle.link();
        if let Some(client) = link.borrow().clone() {
            return Ok(client);
        }
        self.want_running(id).await?;
        let up = async {
            loop {
                if let Some(client) = link.borrow_and_update().clone() {
                    return Ok(client);
                }
                self.hopeless(id).await?;
                // A failure is no news of the link's: look again now and then.
                let _ = tokio::time::timeout(Duration::from_secs(1), link.changed()).await;
            }
        };
        tokio::time::timeout(WAKING, up).await.unwrap_or_else(|_| {
            Err(Problem::new(
                ErrorCode::SandboxUnavailable,
                format!("the session's sandbox did not come up within {} s", WAKING.as_secs()),
            ))
        })
    }

    /// An error if the session's sandbox will not come up by itself.
    async fn hopeless(&self, id: &SessionId) -> Result<()> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        let sandbox = rclaude_store::sandbox::current(&mut conn, id).await.map_err(from_store)?;
        match sandbox.map(|sandbox| sandbox.phase) {
            Some(Phase::Failed(_)) => Err(Problem::new(
                ErrorCode::SandboxUnavailable,
                row.failure.unwrap_or_else(|| "the session's sandbox failed".to_owned()),
            )),
            Some(Phase::Destroying | Phase::Destroyed) | None => Err(not_found(id)),
            Some(_) => Ok(()),
        }
    }
}

fn not_found(id: &SessionId) -> Problem {
    Problem::new(ErrorCode::SessionNotFound, format!("there is no session {id}; `rclaude ls` lists those there are"))
}
