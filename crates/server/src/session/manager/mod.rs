//! What the API calls. Each change is one transaction, one nudge to the session's actor, and an
//! answer at once; what becomes of it is told by the session's log.

mod approvals;
pub(crate) mod carried;
mod checkpoints;
mod execs;
mod files;
pub(crate) mod leases;
mod once;
pub(crate) mod piped;
pub(crate) mod ports;
mod presence;
mod problems;
pub(in crate::session) mod sessions;
pub(crate) mod terminals;
mod turns;
pub(in crate::session) mod view;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use rclaude_sandbox::agentd;
use rclaude_store::{event, sandbox, session};
use rclaude_types::{
    Desired, DiffFormat, ErrorCode, Event, Phase, Problem, Seq, SessionDiff, SessionId,
    UsageSummary,
};

pub(crate) use self::files::events as file_events;
pub use self::files::{Append, Download, FileBytes, Upload};
pub(crate) use self::presence::Presence;
use self::problems::{from_store, no_session};
use super::{engine::Engine, events, inside, live::Handle};

/// Result of a manager's call; a problem is ready for its caller to read.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// How long a command or a file waits for its session's sandbox to come up.
const WAKING: Duration = Duration::from_mins(1);
/// Events in one batch of a follower's.
const BATCH: u32 = 256;

/// Finds, makes and steers sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionManager {
    pub(super) engine: Arc<Engine>,
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

    /// Starts an actor for every session that exists: what was under way goes on.
    pub(crate) async fn recover(&self) -> Result<usize> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let live = session::list_live(&mut conn).await.map_err(from_store)?;
        for row in &live {
            self.engine.wake(&row.id, row.last_seq);
        }
        Ok(live.len())
    }

    /// A page of the log after `after`: up to `limit` events; empty if there are none yet.
    pub async fn events(&self, id: &SessionId, after: Seq, limit: u32) -> Result<Vec<Event>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        event::after(&mut conn, id, after, limit).await.map_err(from_store)
    }

    /// The log after `after`, then what is appended, for as long as it is polled. Ends when the
    /// session is deleted or the server stops.
    pub async fn follow(
        &self,
        id: &SessionId,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<Vec<Event>>>> {
        let handle = self.handle(id).await?;
        let log = Arc::new(SessionLog { engine: self.engine.clone(), id: id.clone() });
        let (last, viewer) = (handle.last_seq(), handle.watch());
        // The stream must not keep the handle alive: its end is the log's end.
        drop(handle);
        let batches = events::follow(log, last, after).inspect(move |_| {
            let _watching = &viewer;
        });
        Ok(batches.take_until(self.engine.cancel.clone().cancelled_owned()).boxed())
    }

    /// How the session's files differ from where they began.
    pub async fn diff(&self, id: &SessionId, format: DiffFormat) -> Result<SessionDiff> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        drop(conn);
        if row.settings.repository.is_none() {
            return Ok(SessionDiff::default());
        }
        let client = self.client(id).await?;
        // The first checkout may have been made while we waited for the sandbox.
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        drop(conn);
        inside::diff(&client, row.base_commit.as_deref(), format)
            .await
            .map_err(|why| Problem::new(ErrorCode::Conflict, format!("no diff can be made: {why}")))
    }

    /// What it used: as the gateway metered it, and as its clock recorded it.
    pub async fn usage(&self, id: &SessionId) -> Result<UsageSummary> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let used = rclaude_store::usage::summary(&mut conn, id).await.map_err(from_store)?;
        let now = self.engine.now();
        let time = rclaude_store::clock::usage(&mut conn, id, now).await.map_err(from_store)?;
        Ok(UsageSummary { time, ..used })
    }

    /// The session's handle, its actor started if it had none.
    async fn handle(&self, id: &SessionId) -> Result<Arc<Handle>> {
        if let Some(handle) = self.engine.live.get(id) {
            return Ok(handle);
        }
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        if row.deleted_at.is_some() {
            return Err(no_session(id));
        }
        Ok(self.engine.wake(id, row.last_seq))
    }

    /// The daemon of a session that is up, waking one that is paused.
    async fn client(&self, id: &SessionId) -> Result<agentd::Client> {
        let handle = self.handle(id).await?;
        handle.active();
        let mut link = handle.link();
        if self.standing(id).await? == Standing::Down {
            self.want(id, Desired::Running).await?;
        }
        let up = async {
            loop {
                // Looked at first: the link of one that is on its way down is there a moment
                // longer, and what is begun there would end or stand still with it.
                let standing = self.standing(id).await?;
                if let Some(client) = link.borrow_and_update().clone()
                    && standing == Standing::Up
                    && !client.is_closed()
                {
                    return Ok(client);
                }
                // A failure is no news of the link's: look again now and then.
                let _ = tokio::time::timeout(Duration::from_millis(500), link.changed()).await;
            }
        };
        tokio::time::timeout(WAKING, up).await.unwrap_or_else(|_| {
            Err(Problem::new(
                ErrorCode::SandboxUnavailable,
                format!("the session's sandbox did not come up within {} s", WAKING.as_secs()),
            ))
        })
    }

    /// How the session's sandbox stands to being used; an error if it will not come up by itself.
    async fn standing(&self, id: &SessionId) -> Result<Standing> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        let phase = sandbox::current(&mut conn, id).await.map_err(from_store)?.phase;
        Ok(match phase {
            Phase::Destroying | Phase::Destroyed => return Err(no_session(id)),
            _ if row.desired == Desired::Deleted => return Err(no_session(id)),
            Phase::Failed(reason) if !reason.is_worth_another() => {
                return Err(Problem::new(
                    ErrorCode::SandboxUnavailable,
                    row.failure.unwrap_or_else(|| "the session's sandbox failed".to_owned()),
                ));
            }
            _ if row.desired != Desired::Running => Standing::Down,
            Phase::Starting | Phase::Running | Phase::Resuming => Standing::Up,
            Phase::Pending => Standing::Coming,
            _ => Standing::Down,
        })
    }
}

/// How a session's sandbox stands to being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It may be used as soon as it is linked.
    Up,
    /// It comes by itself, in another's place whose link may be there yet.
    Coming,
    /// It is set aside, or on its way there.
    Down,
}

/// One session's log, for followers.
#[derive(Debug)]
struct SessionLog {
    engine: Arc<Engine>,
    id: SessionId,
}

impl events::Log for SessionLog {
    type Error = Problem;

    async fn after(&self, cursor: Seq) -> Result<Vec<Event>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        event::after(&mut conn, &self.id, cursor, BATCH).await.map_err(from_store)
    }
}
