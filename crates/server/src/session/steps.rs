//! Doing what [`next_step`](super::lifecycle::next_step) says, one idempotent call at a time.

use std::{sync::Arc, time::Duration};

use rclaude_sandbox::{
    agentd,
    provider::{
        Bootstrap, ErrorClass, Kept, Observed, ProviderError, ReadOnlyBind, SandboxRef, SandboxSpec,
    },
};
use rclaude_store::{checkpoint, clock, sandbox, session};
use rclaude_types::{CheckpointKind, FailureReason, NoticeLevel, Phase};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    engine::Engine,
    lifecycle::{self, Step},
    link::Link,
    manager::{
        sessions::{checkout_row, new_sandbox},
        view::DEFAULT_TEMPLATE,
    },
};
use crate::{
    agent::install::CLAUDE_CODE_IN_SANDBOX,
    chain::chain,
    crash,
    repo::{Checkout, PrepareOptions},
};

/// How long a sandbox that runs may leave its daemon's door unanswered.
const PATIENCE: u32 = 8;
/// How long the daemon may take to answer a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

impl Actor {
    pub(super) async fn perform(&mut self, step: Step) -> Result<Next, TickError> {
        match step {
            Step::Create => self.create().await,
            Step::Connect => self.connect().await,
            Step::Freeze => self.freeze().await,
            Step::Hibernate => self.hibernate().await,
            Step::Archive => self.archive().await,
            Step::Clear => self.clear().await,
            Step::Resume => self.resume().await,
            Step::Destroy => self.destroy().await,
            Step::Reincarnate => self.reincarnate().await,
            Step::Settled => Ok(Next::Again),
        }
    }

    async fn create(&mut self) -> Result<Next, TickError> {
        let checkout = match self.checkout().await? {
            Ok(checkout) => checkout,
            Err(reason) => return self.reject(reason).await,
        };
        if let Err(why) = self.engine.snapshots.fetch(&self.sandbox.stack).await {
            // Every nudge is another attempt; its owner is told now and then.
            if self.attempts.is_multiple_of(PATIENCE) {
                self.notice(NoticeLevel::Error, "snapshot_unavailable", why).await?;
            }
            return Ok(Next::Wait(self.backoff()));
        }
        let spec = self.spec(checkout);
        crash::point("before create");
        match self.engine.provider.create(&spec).await {
            Ok(reference) => {
                crash::point("after create");
                // The daemon is reached while the phase is on its way to the disk.
                let (engine, session) = (self.engine.clone(), self.session.id.clone());
                let token = self.sandbox.token.clone();
                let dialled = dial(&engine, &session, &reference, &token);
                let stored = self.set_phase(Phase::Starting, Some(reference.0.clone()));
                let (stored, dialled) = tokio::join!(stored, dialled);
                stored?;
                self.connected(dialled).await
            }
            Err(error) => self.provider_failed(error).await,
        }
    }

    /// The session's files as layers: prepared now, or as it was prepared before. The inner error
    /// is for the session's owner.
    async fn checkout(&mut self) -> Result<Result<Option<Checkout>, String>, TickError> {
        let Some(source) = &self.session.settings.repository else { return Ok(Ok(None)) };
        if let Some(stored) = &self.session.checkout {
            let checkout: Checkout = match serde_json::from_value(stored.clone()) {
                Ok(checkout) => checkout,
                Err(error) => {
                    return Ok(Err(format!("the stored checkout cannot be read: {error}")));
                }
            };
            let restored = self.engine.repos.restore(&checkout).await;
            return Ok(restored.map(|()| Some(checkout)).map_err(|error| error.to_string()));
        }
        let options = PrepareOptions::new(&self.session.name);
        let checkout = match self.engine.repos.prepare(source, &options, &mut |_| {}).await {
            Ok(checkout) => checkout,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (id, stored, now) =
            (self.session.id.clone(), checkout_row(&checkout), self.engine.now());
        let notices = checkout.notices.clone();
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                session::set_checkout(tx, &id, &stored, now).await?;
                for notice in notices {
                    log.notice(None, NoticeLevel::Info, "repository", notice);
                }
                Ok(())
            })
            .await?;
        Ok(Ok(Some(checkout)))
    }

    fn spec(&self, checkout: Option<Checkout>) -> SandboxSpec {
        let settings = &self.session.settings;
        let (layers, mut binds, files) = checkout
            .map(|checkout| (checkout.layers, checkout.binds, checkout.files))
            .unwrap_or_default();
        if let Some(source) = self.engine.agent() {
            binds.push(ReadOnlyBind { source, target: CLAUDE_CODE_IN_SANDBOX.into() });
        }
        SandboxSpec {
            id: self.sandbox.id.clone(),
            template: settings.template.clone().unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned()),
            resources: settings.resources,
            bootstrap: Bootstrap { token: self.sandbox.token.clone() },
            layers,
            stack: self.sandbox.stack.clone(),
            binds,
            files,
            allow_root: settings.allow_root,
        }
    }

    async fn connect(&mut self) -> Result<Next, TickError> {
        let dialled = self.dial().await;
        self.connected(dialled).await
    }

    async fn connected(&mut self, dialled: Result<Link, String>) -> Result<Next, TickError> {
        match dialled {
            Ok(link) => {
                let reference = self.sandbox.provider_ref.clone();
                self.handle.fresh();
                self.adopt(link).await?;
                self.set_phase(Phase::Running, reference).await?;
                Ok(Next::Again)
            }
            Err(reason) => self.unreachable(&reason).await,
        }
    }

    /// Writes what became of the sandbox behind our back, and tells its owner what that means.
    async fn found(&mut self, observed: Phase) -> Result<(), TickError> {
        let note = match observed {
            // A crash came while a state was being kept: nothing was lost.
            Phase::Paused => None,
            Phase::Hibernated => {
                Some("the sandbox had stopped: its processes ended, its files are kept")
            }
            _ => Some("the sandbox is gone"),
        };
        if let Some(note) = note {
            let mut conn = self.engine.store.read().await?;
            let seen = clock::last_beat(&mut conn, &self.session.id).await?;
            drop(conn);
            let since = seen.map_or_else(String::new, |at| format!(" (last seen to run {at})"));
            self.notice(NoticeLevel::Warning, "sandbox_stopped", format!("{note}{since}")).await?;
        }
        if observed != Phase::Paused {
            self.lose_execs("its sandbox stopped").await?;
        }
        self.set_phase(observed, None).await
    }

    /// Whether a sandbox that is set aside is still as it was left. Looked at once: nobody but us
    /// and the host's own end changes it.
    pub(super) async fn look_at_rest(&mut self) -> Result<(), TickError> {
        if self.looked {
            return Ok(());
        }
        let seen = match self.engine.provider.inspect(&self.reference()).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot inspect");
                return Ok(());
            }
        };
        self.looked = true;
        let observed = lifecycle::observe(self.sandbox.phase, seen, self.engine.ladder());
        if observed != self.sandbox.phase {
            self.found(observed).await?;
        }
        Ok(())
    }

    /// Makes the link of a sandbox that is already running.
    pub(super) async fn relink(&mut self) -> Result<Next, TickError> {
        // Nobody would answer: a crash came while a state of it was being kept.
        if let Ok(Observed::Paused) = self.engine.provider.inspect(&self.reference()).await {
            self.found(Phase::Paused).await?;
            return Ok(Next::Again);
        }
        match self.dial().await {
            Ok(link) => {
                // What happened before we came is not news.
                let _ = self.ran_out_of_memory().await;
                self.adopt(link).await?;
                Ok(Next::Again)
            }
            Err(reason) => self.unreachable(&reason).await,
        }
    }

    async fn dial(&self) -> Result<Link, String> {
        let token = &self.sandbox.token;
        dial(&self.engine, &self.session.id, &self.reference(), token).await
    }

    async fn adopt(&mut self, link: Link) -> Result<(), TickError> {
        self.attempts = 0;
        self.handle.set_link(Some(link.client.clone()));
        self.watch_execs(&link).await?;
        self.link = Some(link);
        Ok(())
    }

    /// The daemon could not be reached: is the sandbox still there?
    async fn unreachable(&mut self, reason: &str) -> Result<Next, TickError> {
        let seen = match self.engine.provider.inspect(&self.reference()).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot inspect");
                return Ok(Next::Wait(self.backoff()));
            }
        };
        let observed = lifecycle::observe(self.sandbox.phase, seen, self.engine.ladder());
        if observed != self.sandbox.phase {
            self.drop_link();
            self.falls.failed(Instant::now());
            tracing::warn!(session.id = %self.session.id, reason, ?observed, "the sandbox changed");
            self.found(observed).await?;
            return Ok(Next::Again);
        }
        if self.attempts < PATIENCE || seen == Observed::Starting {
            return Ok(Next::Wait(self.backoff()));
        }
        if self.attempts == PATIENCE {
            self.notice(
                NoticeLevel::Error,
                "daemon_unreachable",
                format!("the sandbox runs but its daemon does not answer: {reason}"),
            )
            .await?;
        }
        // Its disk is sound: end its processes and start it again. Where even that fails it is
        // tried until it works: another sandbox in its place would begin without the files.
        if let Some(pausing) = self.engine.provider.pausing() {
            if let Err(error) = pausing.stop(&self.reference()).await {
                tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot stop");
                return Ok(Next::Wait(self.backoff()));
            }
            self.drop_link();
            self.set_phase(Phase::Hibernated, None).await?;
            return Ok(Next::Again);
        }
        self.set_phase(Phase::Failed(FailureReason::AgentUnreachable), None).await?;
        Ok(Next::Again)
    }

    async fn freeze(&mut self) -> Result<Next, TickError> {
        if self.sandbox.phase != Phase::Pausing {
            return self.set_aside(Phase::Pausing).await;
        }
        self.drop_link();
        let Some(pausing) = self.engine.provider.pausing() else { return Ok(Next::Again) };
        crash::point("before freeze");
        let (done, reached) = match pausing.keeps() {
            Kept::Memory => (pausing.freeze(&self.reference()).await, Phase::Paused),
            // Begun on a host that could.
            Kept::Disk => (pausing.stop(&self.reference()).await, Phase::Hibernated),
        };
        match done {
            Ok(()) => {
                crash::point("after freeze");
                self.set_phase(reached, None).await?;
                Ok(Next::Again)
            }
            Err(error) => {
                // One that ended before it stood still cannot be frozen, however often we try.
                if let Ok(seen) = self.engine.provider.inspect(&self.reference()).await {
                    let ladder = self.engine.ladder();
                    let observed = lifecycle::observe(self.sandbox.phase, seen, ladder);
                    if observed != self.sandbox.phase {
                        self.found(observed).await?;
                        return Ok(Next::Again);
                    }
                }
                self.provider_failed(error).await
            }
        }
    }

    /// Ends the sandbox's processes. What the agent was at ends with them if its owner wants it
    /// so; otherwise it is taken up again when the session wakes.
    async fn hibernate(&mut self) -> Result<Next, TickError> {
        if self.sandbox.phase != Phase::Hibernating {
            return self.set_aside(Phase::Hibernating).await;
        }
        if self.session.desired_reason.is_none() {
            self.end_work().await?;
        }
        self.drop_link();
        let Some(pausing) = self.engine.provider.pausing() else { return Ok(Next::Again) };
        crash::point("before stop");
        match pausing.stop(&self.reference()).await {
            Ok(()) => {
                crash::point("after stop");
                self.lose_execs("the session was hibernated").await?;
                self.set_phase(Phase::Hibernated, None).await?;
                Ok(Next::Again)
            }
            Err(error) => self.provider_failed(error).await,
        }
    }

    /// Brings the present state into the snapshot store. The disk goes only when all of it is
    /// there.
    async fn archive(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let latest = checkpoint::latest(&mut conn, &self.session.id).await?;
        drop(conn);
        let Some(latest) = latest.filter(|row| row.is_of(&self.sandbox)) else {
            if let Some(left) = self.given_up.wait(Instant::now()) {
                // What others asked for meanwhile is made.
                return Ok(match self.mind_checkpoints().await? {
                    Next::Wait(wait) => Next::Wait(wait.min(left)),
                    next => next,
                });
            }
            self.want_checkpoint(CheckpointKind::Archive).await?;
            return self.mind_checkpoints().await;
        };
        if latest.checkpoint.stored {
            self.set_phase(Phase::Archiving, None).await?;
            return Ok(Next::Again);
        }
        // On its own: its owner may want the session back meanwhile.
        if self.storing.as_ref().is_none_or(JoinHandle::is_finished) {
            if self.storing.take().is_some() {
                return Ok(Next::Wait(self.backoff()));
            }
            let (engine, handle) = (self.engine.clone(), self.handle.clone());
            self.storing = Some(self.engine.tracker.spawn(async move {
                crash::point("before store");
                let stored = engine.snapshots.store(&latest);
                if let Some(Err(error)) = engine.cancel.run_until_cancelled(stored).await {
                    tracing::warn!(session.id = %handle.id, error, "cannot archive yet");
                }
                crash::point("after store");
                handle.nudge();
            }));
        }
        Ok(Next::Wait(INSPECTION))
    }

    /// Removes the disk of a session that lies in the snapshot store.
    async fn clear(&mut self) -> Result<Next, TickError> {
        self.drop_link();
        crash::point("before clear");
        if let Err(error) = self.engine.provider.destroy(&self.reference()).await {
            return self.provider_failed(error).await;
        }
        crash::point("after clear");
        self.set_phase(Phase::Archived, None).await?;
        self.engine.sweep.notify_one();
        Ok(Next::Again)
    }

    async fn resume(&mut self) -> Result<Next, TickError> {
        if let Some(left) = self.falls.wait(Instant::now()) {
            return Ok(Next::Wait(left));
        }
        if self.sandbox.phase != Phase::Resuming {
            self.set_phase(Phase::Resuming, None).await?;
            return Ok(Next::Again);
        }
        match self.engine.provider.inspect(&self.reference()).await {
            // Its processes are no more, however it was set aside, and what they start on may
            // have to be made again.
            Ok(Observed::Stopped) => {
                self.lose_execs("its sandbox stopped").await?;
                if let Err(reason) = self.checkout().await? {
                    self.notice(NoticeLevel::Error, "repository", reason).await?;
                    return Ok(Next::Wait(self.backoff()));
                }
            }
            Ok(Observed::Absent) => {
                return self.unreachable("the provider knows nothing of it").await;
            }
            Ok(_) => {}
            Err(error) => return self.provider_failed(error).await,
        }
        let Some(pausing) = self.engine.provider.pausing() else { return Ok(Next::Again) };
        crash::point("before resume");
        match pausing.resume(&self.reference()).await {
            Ok(reference) => {
                crash::point("after resume");
                self.sandbox.provider_ref = Some(reference.0);
                self.connect().await
            }
            Err(error) => self.provider_failed(error).await,
        }
    }

    async fn destroy(&mut self) -> Result<Next, TickError> {
        if self.sandbox.phase != Phase::Destroying {
            self.set_phase(Phase::Destroying, None).await?;
            return Ok(Next::Again);
        }
        self.drop_link();
        // A crash may have lost the provider's name for it before it was stored.
        let reference = match &self.sandbox.provider_ref {
            Some(reference) => Some(SandboxRef(reference.clone())),
            None => match self.engine.provider.find(&self.sandbox.id).await {
                Ok(found) => found,
                Err(error) => return self.provider_failed(error).await,
            },
        };
        crash::point("before destroy");
        if let Some(reference) = reference
            && let Err(error) = self.engine.provider.destroy(&reference).await
        {
            tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot destroy");
            return Ok(Next::Wait(self.backoff()));
        }
        crash::point("after destroy");
        self.lose_execs("its sandbox was removed").await?;
        self.set_phase(Phase::Destroyed, None).await?;
        Ok(Next::Again)
    }

    /// Another machine for the session, with the newest state there is.
    async fn reincarnate(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let latest = checkpoint::latest(&mut conn, &self.session.id).await?;
        drop(conn);
        self.drop_link();
        let lost = self.sandbox.phase != Phase::Archived;
        let stack = match &latest {
            Some(row) => row.stack.clone(),
            // It has had no state of its own yet: back to what it started on.
            None => self.sandbox.stack.clone(),
        };
        let kind = self.engine.provider.kind();
        let next = new_sandbox(&self.session.id, kind, stack, self.engine.now());
        crash::point("before reincarnate");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                if lost {
                    let text = match &latest {
                        Some(row) => format!(
                            "the sandbox vanished with its files; another starts from checkpoint \
                             {} of {}; what was written after that is lost",
                            row.checkpoint.id, row.checkpoint.created_at,
                        ),
                        None => "the sandbox vanished with its files; another starts from the \
                                 repository: there was no checkpoint yet"
                            .to_owned(),
                    };
                    log.notice(None, NoticeLevel::Error, "sandbox_replaced", text);
                }
                sandbox::insert(tx, &next).await
            })
            .await?;
        crash::point("after reincarnate");
        Ok(Next::Again)
    }

    /// A provider's error: worth another attempt, or the end of it.
    async fn provider_failed(&mut self, error: ProviderError) -> Result<Next, TickError> {
        let retry_after = match &error.class {
            ErrorClass::Unavailable { retry_after } => *retry_after,
            _ => None,
        };
        if error.class.is_retryable() && self.attempts < PATIENCE {
            tracing::warn!(session.id = %self.session.id, error = chain(&error), "will try again");
            let wait = self.backoff();
            return Ok(Next::Wait(retry_after.map_or(wait, |asked| asked.max(wait))));
        }
        let reason = chain(&error);
        match self.sandbox.phase {
            Phase::Resuming
            | Phase::Pausing
            | Phase::Hibernating
            | Phase::Archiving
            | Phase::Destroying => {
                // Every nudge is another attempt; its owner is told now and then.
                if self.attempts.is_multiple_of(PATIENCE) {
                    self.notice(NoticeLevel::Error, "provider_failed", reason).await?;
                }
                Ok(Next::Wait(self.backoff()))
            }
            _ => self.reject(reason).await,
        }
    }

    /// The session cannot have its sandbox: says why, and fails what was queued.
    async fn reject(&mut self, reason: String) -> Result<Next, TickError> {
        tracing::warn!(session.id = %self.session.id, reason, "the sandbox cannot be made");
        self.session.failure = Some(reason.clone());
        let (id, now) = (self.session.id.clone(), self.engine.now());
        let why = reason.clone();
        self.engine
            .store
            .write(async move |tx| session::set_failure(tx, &id, Some(&why), now).await)
            .await?;
        self.fail_queue(&reason).await?;
        self.set_phase(Phase::Failed(FailureReason::Rejected), None).await?;
        Ok(Next::Again)
    }

    pub(super) fn reference(&self) -> SandboxRef {
        SandboxRef(self.sandbox.provider_ref.clone().unwrap_or_default())
    }
}

/// Takes over a sandbox's network, then reaches its daemon and shakes hands.
async fn dial(
    engine: &Arc<Engine>,
    session: &rclaude_types::SessionId,
    reference: &SandboxRef,
    token: &str,
) -> Result<Link, String> {
    let provider = &engine.provider;
    let cancel = engine.cancel.child_token();
    if let Some(outbound) = provider.outbound() {
        let sockets = outbound.sockets(reference).await.map_err(|e| chain(&e))?;
        engine.serve_outbound(session, sockets, &cancel);
    }
    let stream = provider.dial(reference).await.map_err(|e| chain(&e))?;
    let shake = async {
        let client = agentd::Client::connect(stream, token, &engine.tracker).await?;
        client.health().await?;
        Ok::<_, agentd::Error>(client)
    };
    match tokio::time::timeout(HANDSHAKE, shake).await {
        Ok(Ok(client)) => Ok(Link::new(client, cancel)),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("no answer to the handshake".to_owned()),
    }
}
