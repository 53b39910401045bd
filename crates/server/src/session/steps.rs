//! Doing what [`next_step`](super::lifecycle::next_step) says, one idempotent call at a time.

use std::{sync::Arc, time::Duration};

use rclaude_sandbox::{
    agentd,
    provider::{
        Bootstrap, ErrorClass, Observed, ProviderError, ReadOnlyBind, SandboxRef, SandboxSpec,
    },
};
use rclaude_store::{sandbox, session};
use rclaude_types::{FailureReason, NoticeLevel, Phase};
use tokio::time::Instant;

use super::{
    actor::{Actor, Next, TickError},
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
            Step::Pause => self.pause().await,
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
        let spec = self.spec(checkout);
        match self.engine.provider.create(&spec).await {
            Ok(reference) => {
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

    /// Makes the link of a sandbox that is already running.
    pub(super) async fn relink(&mut self) -> Result<Next, TickError> {
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
        let observed = lifecycle::observe(self.sandbox.phase, seen, self.engine.can());
        if observed != self.sandbox.phase {
            self.drop_link();
            self.falls.failed(Instant::now());
            let note = match observed {
                Phase::Paused => "the sandbox had stopped; its files are kept",
                _ => "the sandbox is gone",
            };
            tracing::warn!(session.id = %self.session.id, reason, note);
            self.notice(NoticeLevel::Warning, "sandbox_stopped", note).await?;
            self.set_phase(observed, None).await?;
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
            if let Err(error) = pausing.pause(&self.reference()).await {
                tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot stop");
                return Ok(Next::Wait(self.backoff()));
            }
            self.drop_link();
            self.set_phase(Phase::Paused, None).await?;
            return Ok(Next::Again);
        }
        self.set_phase(Phase::Failed(FailureReason::AgentUnreachable), None).await?;
        Ok(Next::Again)
    }

    async fn pause(&mut self) -> Result<Next, TickError> {
        if self.sandbox.phase != Phase::Pausing {
            self.set_phase(Phase::Pausing, None).await?;
            return Ok(Next::Again);
        }
        self.end_work().await?;
        self.drop_link();
        let Some(pausing) = self.engine.provider.pausing() else { return Ok(Next::Again) };
        match pausing.pause(&self.reference()).await {
            Ok(()) => {
                self.lose_execs().await?;
                self.set_phase(Phase::Paused, None).await?;
                Ok(Next::Again)
            }
            Err(error) => self.provider_failed(error).await,
        }
    }

    async fn resume(&mut self) -> Result<Next, TickError> {
        if let Some(left) = self.falls.wait(Instant::now()) {
            return Ok(Next::Wait(left));
        }
        if self.sandbox.phase != Phase::Resuming {
            self.lose_execs().await?;
            self.set_phase(Phase::Resuming, None).await?;
            return Ok(Next::Again);
        }
        if let Err(reason) = self.checkout().await? {
            self.notice(NoticeLevel::Error, "repository", reason).await?;
            return Ok(Next::Wait(self.backoff()));
        }
        let Some(pausing) = self.engine.provider.pausing() else { return Ok(Next::Again) };
        match pausing.resume(&self.reference()).await {
            Ok(reference) => {
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
        if let Some(reference) = reference
            && let Err(error) = self.engine.provider.destroy(&reference).await
        {
            tracing::warn!(session.id = %self.session.id, error = chain(&error), "cannot destroy");
            return Ok(Next::Wait(self.backoff()));
        }
        self.lose_execs().await?;
        self.set_phase(Phase::Destroyed, None).await?;
        Ok(Next::Again)
    }

    async fn reincarnate(&mut self) -> Result<Next, TickError> {
        self.notice(
            NoticeLevel::Error,
            "sandbox_replaced",
            "the sandbox vanished with its files; a new one starts from the repository",
        )
        .await?;
        self.drop_link();
        let next = new_sandbox(&self.session.id, self.engine.provider.kind(), self.engine.now());
        self.engine
            .commit(&self.session.id, async move |tx, _| sandbox::insert(tx, &next).await)
            .await?;
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
            Phase::Resuming | Phase::Pausing | Phase::Destroying => {
                self.notice(NoticeLevel::Error, "provider_failed", reason).await?;
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
