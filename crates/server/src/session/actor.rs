//! One task per session: the only writer of its sandbox's phase and of its turns' progress.
//!
//! # Theory of operation
//!
//! A *tick* reads the rows, asks [`next_step`] what is missing and does that one thing; when
//! nothing is missing and the sandbox runs, it sees to the link to the daemon and to the agent.
//! Then the actor waits for a nudge (something was stored), for output of the agent, or for time
//! to look again. It keeps nothing in memory that a restarted server could not read back:
//!
//! - *Store first, act second.* A phase is written before and after the provider is asked; a
//!   process's launch and every line of its input are stored before they are sent. Acting twice is
//!   harmless because ids and offsets are chosen here: a repeated create adopts, a repeated start
//!   adopts, input that arrived already is dropped.
//! - *One transaction per advance.* Events made of output, the offset read up to and the state
//!   between lines are written together, so no event is ever written twice or lost.
//! - *A lost link is a fact about the connection.* It is dialled again; the phase changes only when
//!   the provider says that the sandbox is gone or stopped, or redialling ran out of patience.

use std::{sync::Arc, time::Duration};

use rclaude_store::{
    StoreError, checkpoint, sandbox,
    sandbox::SandboxRow,
    session::{self, SessionRow},
};
use rclaude_types::{Desired, NoticeLevel, Phase};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    agent_run::AgentRun,
    brake::Brake,
    checkpoint::Sealing,
    engine::Engine,
    lifecycle::{Step, next_step},
    link::Link,
    live::Handle,
    rest::Frozen,
};
use crate::crash;

/// How long a settled actor goes without a look at its rows.
pub(super) const INSPECTION: Duration = Duration::from_secs(15);
/// The pause after the first attempt at something that failed.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest pause between attempts at something that fails.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// See the module.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) engine: Arc<Engine>,
    pub(super) handle: Arc<Handle>,
    pub(super) session: SessionRow,
    pub(super) sandbox: SandboxRow,
    pub(super) link: Option<Link>,
    pub(super) run: Option<AgentRun>,
    /// Failed attempts at the present step.
    pub(super) attempts: u32,
    /// How often the sandbox fell over lately.
    pub(super) falls: Brake,
    /// Whether its owner was told that the disk is full.
    pub(super) told_full: bool,
    /// Whether a checkpoint is wanted.
    pub(super) keeping: bool,
    /// When a turn last ended, as far as we were there.
    pub(super) turn_ended: Option<Instant>,
    /// What is copied ahead for it.
    pub(super) sealing: Option<Sealing>,
    /// Checkpoints that could not be made lately.
    pub(super) given_up: Brake,
    /// Brings a checkpoint into the snapshot store.
    pub(super) storing: Option<JoinHandle<()>>,
    /// Whether a sandbox at rest was looked at.
    pub(super) looked: bool,
    /// When the last checkpoint was made, as far as we were there.
    pub(super) kept_at: Instant,
    /// Since when the sandbox has stood still, as far as we were there, and whether its memory
    /// was given back.
    pub(super) frozen: Option<Frozen>,
    /// Ticks that failed, and when the last did.
    failures: Brake,
}

/// What to do after a tick.
#[derive(Debug)]
pub(super) enum Next {
    /// Tick again at once.
    Again,
    /// Wait for something to happen, at most so long.
    Wait(Duration),
    /// Nothing will ever happen here again.
    Done,
}

/// Why a tick failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TickError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the link to the sandbox's daemon was lost: {0}")]
    Link(String),
}

/// Runs a session's actor until the session is gone or the server goes down.
pub(super) async fn run(engine: Arc<Engine>, handle: Arc<Handle>) {
    let cancel = engine.cancel.clone();
    let work = async {
        let mut patience = Duration::from_millis(100);
        loop {
            match Actor::load(engine.clone(), handle.clone()).await {
                Ok(mut actor) => return actor.live().await,
                Err(StoreError::NotFound { .. }) => return engine.live.forget(&handle.id),
                Err(error) => {
                    tracing::error!(session.id = %handle.id, %error, "cannot read the session");
                    tokio::time::sleep(patience).await;
                    patience = (patience * 2).min(LONGEST_BACKOFF);
                }
            }
        }
    };
    // Everything is stored before it is done, so an actor may be dropped at any await.
    Box::pin(cancel.run_until_cancelled(work)).await;
}

impl Actor {
    async fn load(engine: Arc<Engine>, handle: Arc<Handle>) -> Result<Self, StoreError> {
        let mut conn = engine.store.read().await?;
        let session = session::get(&mut conn, &handle.id).await?;
        let sandbox = sandbox::current(&mut conn, &handle.id).await?;
        drop(conn);
        let (link, run) = (None, None);
        let (falls, failures) = (Brake::default(), Brake::default());
        Ok(Self {
            engine,
            handle,
            session,
            sandbox,
            link,
            run,
            attempts: 0,
            falls,
            told_full: false,
            keeping: false,
            turn_ended: None,
            sealing: None,
            given_up: Brake::default(),
            storing: None,
            looked: false,
            kept_at: Instant::now(),
            frozen: None,
            failures,
        })
    }

    async fn live(&mut self) {
        loop {
            let next = match self.tick().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(session.id = %self.handle.id, %error, "will try again");
                    // Whatever is in memory may be ahead of what was stored.
                    self.drop_link();
                    Next::Wait(self.pause_after_failure())
                }
            };
            match next {
                Next::Again => {}
                Next::Wait(longest) => self.wait(longest).await,
                Next::Done => break,
            }
        }
        self.drop_link();
        self.engine.live.forget(&self.handle.id);
    }

    async fn tick(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        self.session = session::get(&mut conn, &self.handle.id).await?;
        self.sandbox = sandbox::current(&mut conn, &self.handle.id).await?;
        drop(conn);
        let step = next_step(self.session.desired, self.sandbox.phase, self.engine.ladder());
        if step != Step::Settled {
            return self.perform(step).await;
        }
        match self.sandbox.phase {
            Phase::Destroyed => self.bury_session().await,
            Phase::Running if self.link.is_none() => self.relink().await,
            Phase::Running => self.tend().await,
            Phase::Paused | Phase::Hibernated => self.rest().await,
            Phase::Archived => self.mind_checkpoints().await,
            _ => Ok(Next::Wait(INSPECTION)),
        }
    }

    /// A running sandbox: its disk, its states, its agent, its idleness.
    async fn tend(&mut self) -> Result<Next, TickError> {
        self.mind_disk().await?;
        let Next::Wait(keep) = self.mind_checkpoints().await? else { return Ok(Next::Again) };
        if let Next::Again = self.mind_setup().await? {
            return Ok(Next::Again);
        }
        match self.drive_agent().await? {
            Next::Wait(longest) => self.mind_idleness(longest.min(keep)).await,
            next => Ok(next),
        }
    }

    /// Time before the next attempt; longer each time, until something succeeds.
    pub(super) fn backoff(&mut self) -> Duration {
        self.attempts += 1;
        let doublings = self.attempts.saturating_sub(1).min(10);
        (FIRST_BACKOFF * 2_u32.saturating_pow(doublings)).min(LONGEST_BACKOFF)
    }

    /// Time before the next tick after one that failed; longer each time, until for a while none
    /// did. Attempts at a step do not count here: the link comes back at once when what fails
    /// lies behind it.
    fn pause_after_failure(&mut self) -> Duration {
        let now = Instant::now();
        self.failures.failed(now);
        self.failures.wait(now).unwrap_or(FIRST_BACKOFF)
    }

    /// Until a nudge, news from the agent, the end of the link, or `longest`.
    async fn wait(&mut self, longest: Duration) {
        let until = Instant::now() + longest;
        let news = async {
            match &mut self.run {
                Some(run) => run.arrived().await,
                None => std::future::pending().await,
            }
        };
        let lost = async {
            match &self.link {
                Some(link) => link.lost().await,
                None => std::future::pending().await,
            }
        };
        let prepared = async {
            match &mut self.sealing {
                Some(sealing) => sealing.prepared().await,
                None => std::future::pending().await,
            }
        };
        let lost = tokio::select! {
            () = self.handle.nudged() => false,
            () = news => false,
            () = prepared => false,
            () = lost => true,
            () = sleep_until(until) => false,
        };
        // Output that arrived before the end is read first; the rest is journalled.
        if lost && self.run.as_ref().is_none_or(|run| !run.has_output()) {
            self.drop_link();
        }
    }

    /// Forgets the link and what hangs on it; all of it can be made again.
    pub(super) fn drop_link(&mut self) {
        self.handle.set_link(None);
        self.run = None;
        self.link = None;
    }

    /// Writes that the sandbox begins to be set aside, unless its owner wishes otherwise by now.
    /// So whoever asks for it sees that it goes, or is heard before it does.
    pub(super) async fn set_aside(&mut self, next: Phase) -> Result<Next, TickError> {
        let wished = Some(self.session.desired);
        self.write_phase(next, None, wished).await?;
        Ok(Next::Again)
    }

    /// Writes where the sandbox now is, and the provider's name for it if that is news.
    pub(super) async fn set_phase(
        &mut self,
        next: Phase,
        reference: Option<String>,
    ) -> Result<(), TickError> {
        self.write_phase(next, reference, None).await
    }

    async fn write_phase(
        &mut self,
        next: Phase,
        reference: Option<String>,
        wished: Option<Desired>,
    ) -> Result<(), TickError> {
        let (session, id) = (self.session.id.clone(), self.sandbox.id.clone());
        let (generation, now) = (self.sandbox.generation, self.engine.now());
        crash::phase("before", next);
        let written = self
            .engine
            .commit(&self.session.id, async move |tx, _| {
                if let Some(wished) = wished
                    && session::get(tx, &session).await?.desired != wished
                {
                    return Ok(None);
                }
                let reference = reference.as_deref();
                sandbox::set_phase(tx, &id, generation, next, reference, now).await.map(Some)
            })
            .await?;
        let Some(written) = written else { return Ok(()) };
        self.sandbox = written;
        crash::phase("after", next);
        self.attempts = 0;
        self.looked = true;
        self.frozen = (next == Phase::Paused).then(Frozen::now);
        if next == Phase::Running {
            self.handle.active();
        }
        Ok(())
    }

    /// Tells the session's owner something.
    pub(super) async fn notice(
        &self,
        level: NoticeLevel,
        code: &'static str,
        message: impl Into<String>,
    ) -> Result<(), TickError> {
        let message = message.into();
        self.engine
            .commit(&self.session.id, async move |_, log| {
                log.notice(None, level, code, message);
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// The sandbox of a deleted session is gone: so is the session.
    async fn bury_session(&mut self) -> Result<Next, TickError> {
        let (id, now) = (self.session.id.clone(), self.engine.now());
        crash::point("before a deleted session is forgotten");
        self.engine
            .store
            .write(async move |tx| {
                checkpoint::remove_all(tx, &id).await?;
                session::mark_deleted(tx, &id, now).await
            })
            .await?;
        crash::point("after a deleted session is forgotten");
        Ok(Next::Done)
    }
}
