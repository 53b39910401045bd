//! Sessions that do nothing: when they go down a rung, and what is done for those that did.

use std::time::Duration;

use rclaude_store::{clock, exec, session, turn};
use rclaude_types::{Desired, Phase, TurnState};
use tokio::time::Instant;

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    policy::{self, AgentWork, Business, Change, Pressure},
};
use crate::{chain::chain, crash, host};

/// How often a sandbox at rest is looked at.
const RESTING: Duration = Duration::from_mins(1);
/// How long a sandbox stands still before its memory is given back to the host.
const SETTLED: Duration = Duration::from_secs(30);

/// For a daemon to say how it is.
const HEALTH_WITHIN: Duration = Duration::from_secs(5);

/// A sandbox that stands still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frozen {
    since: Instant,
    reclaimed: bool,
}

impl Frozen {
    pub(super) fn now() -> Self {
        Self { since: Instant::now(), reclaimed: false }
    }
}

impl Actor {
    /// A sandbox that is set aside: is it still as it was, and should it be further aside?
    pub(super) async fn rest(&mut self) -> Result<Next, TickError> {
        let before = self.sandbox.phase;
        self.look_at_rest().await?;
        if self.sandbox.phase != before {
            return Ok(Next::Again);
        }
        if let Next::Again = self.mind_checkpoints().await? {
            return Ok(Next::Again);
        }
        let spent = self.spent().await?;
        let pressure = self.pressure();
        let change = match spent {
            Some(word) if self.sandbox.phase == Phase::Paused => Some((Desired::Hibernated, word)),
            _ => self.engine.policy.of_resting(self.sandbox.phase, self.rested(), pressure),
        };
        if let Some(change) = change
            && self.leads_somewhere(change)
        {
            self.change(change).await?;
            return Ok(Next::Again);
        }
        if self.sandbox.phase == Phase::Paused {
            self.reclaim().await;
        }
        Ok(Next::Wait(if self.sealing.is_some() { INSPECTION } else { RESTING }))
    }

    /// Whether the host has the rung.
    fn leads_somewhere(&self, (desired, _): Change) -> bool {
        desired != Desired::Archived || self.engine.ladder().archive
    }

    /// Gives a frozen sandbox's memory back to the host, once it has stood still for a while.
    async fn reclaim(&mut self) {
        let due = self.frozen.is_none_or(|it| !it.reclaimed && it.since.elapsed() >= SETTLED);
        if !due {
            return;
        }
        self.frozen = Some(Frozen { since: Instant::now(), reclaimed: true });
        if let Some(pausing) = self.engine.provider.pausing() {
            match pausing.reclaim(&self.reference()).await {
                Ok(0) => {}
                Ok(bytes) => tracing::debug!(session.id = %self.session.id, bytes, "reclaimed"),
                Err(error) => {
                    tracing::info!(session.id = %self.session.id, error = chain(&error), "kept");
                }
            }
        }
    }

    /// A running sandbox whose agent waits: should it be set aside? Answers how long to wait at
    /// most, given what else is waited for.
    pub(super) async fn mind_idleness(&mut self, longest: Duration) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let open = turn::open(&mut conn, &self.session.id).await?;
        let commands = !exec::list_running(&mut conn, &self.sandbox.id).await?.is_empty();
        drop(conn);
        let agent = match open.map(|row| row.turn.state) {
            None => AgentWork::None,
            Some(TurnState::AwaitingInput) => AgentWork::Asking,
            Some(_) => AgentWork::Working,
        };
        let business = Business { agent, commands, viewers: self.handle.is_watched() };
        let at_work = agent == AgentWork::Working;
        self.mind_interval(at_work || commands).await?;
        if at_work {
            self.handle.active();
        }
        if let Some(word) = self.spent().await? {
            self.change((Desired::Hibernated, word)).await?;
            return Ok(Next::Again);
        }
        let own = &self.session.settings.life;
        let since_set = self.session.settings.life_since.unwrap_or(self.session.created_at);
        let since_set = policy::elapsed(since_set, self.engine.now());
        let (policy, mut idle) = (self.engine.policy, self.handle.idle());
        if policy.idle(own).is_some_and(|limit| idle >= limit) {
            // A terminal that prints is not idle, though nobody looks.
            idle = idle.min(self.silence().await);
        }
        let can = self.engine.ladder().pause.is_some();
        if let Some(change) = policy.of_running(own, business, idle, since_set).filter(|_| can) {
            self.change(change).await?;
            return Ok(Next::Again);
        }
        // Looks again when the time is up rather than some inspection later.
        let left = policy.idle(own).map(|limit| limit.saturating_sub(idle));
        let left = left.filter(|left| !left.is_zero()).unwrap_or(longest);
        Ok(Next::Wait(longest.min(left)))
    }

    /// How long no terminal has printed anything.
    async fn silence(&self) -> Duration {
        let Some(link) = &self.link else { return Duration::MAX };
        let health = tokio::time::timeout(HEALTH_WITHIN, link.client.health()).await;
        let printed = health.ok().and_then(Result::ok).and_then(|it| it.printed_seconds_ago);
        printed.map_or(Duration::MAX, Duration::from_secs)
    }

    /// The allowance that the session has used up.
    async fn spent(&self) -> Result<Option<&'static str>, TickError> {
        let own = &self.session.settings.life;
        if own.ttl_seconds.is_none() && own.max_running_seconds.is_none() {
            return Ok(None);
        }
        let now = self.engine.now();
        let mut conn = self.engine.store.read().await?;
        let used = clock::usage(&mut conn, &self.session.id, now).await?;
        let age = policy::elapsed(self.session.created_at, now);
        Ok(policy::exhausted(own, age, used))
    }

    /// Wants something of the session that nobody asked for.
    async fn change(&mut self, (desired, why): Change) -> Result<(), TickError> {
        let (id, read, now) = (self.session.id.clone(), self.session.desired, self.engine.now());
        tracing::info!(session.id = %id, ?desired, why, "by policy");
        crash::point("before policy");
        self.engine
            .commit(&self.session.id, async move |tx, _| {
                // Somebody may have woken it in this very moment.
                if session::get(tx, &id).await?.desired == read {
                    session::set_desired(tx, &id, desired, Some(why), now).await?;
                }
                Ok(())
            })
            .await?;
        crash::point("after policy");
        Ok(())
    }

    fn pressure(&self) -> Pressure {
        let policy = &self.engine.policy;
        let short = |free: Option<u32>, floor: u32| free.is_some_and(|free| free < floor);
        Pressure {
            memory: short(host::free_memory(), policy.free_memory),
            disk: short(host::free_disk(&self.engine.data_dir), policy.free_disk),
        }
    }
}
