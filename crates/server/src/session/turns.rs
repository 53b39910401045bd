//! Turns: beginning the next, ending the one that is done.

use std::time::Duration;

use rclaude_sandbox::agentd;
use rclaude_store::{
    Result as StoreResult, Tx, agent as agent_rows, checkpoint,
    turn::{self, TurnRow},
    usage,
};
use rclaude_types::{
    CheckpointKind, EventBody, MicroUsd, Timestamp, TokenUsage, TurnId, TurnOutcome,
};

use tokio::time::Instant;

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    agent_life::{Beginning, Death, bury},
    log::{NewEvents, withdraw_asks},
    run_state::Ending,
};
use crate::{agent, crash};

/// How long an agent may take to heed an interrupt before it is ended.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is reminded meanwhile.
const REMINDER: Duration = Duration::from_secs(1);
/// How long the last request of a turn may take to be metered.
const METERING: Duration = Duration::from_secs(2);

impl Actor {
    /// Brings agent and turns on: reads what the agent printed, sends what was stored for it,
    /// ends the turn that is done, begins the next.
    pub(super) async fn drive_agent(&mut self) -> Result<Next, TickError> {
        if self.run.is_none() {
            self.pick_up_run().await?;
        }
        if let Some(run) = &mut self.run {
            let output = run.take();
            if !output.is_empty() {
                if let Some(exit) = self.ingest(output).await? {
                    self.agent_ended(&exit).await?;
                }
                return Ok(Next::Again);
            }
            run.feed();
        }
        match (&self.run, self.current_turn().await?) {
            (Some(run), Some(turn)) if run.state.is_done() => {
                let ending = run.state.ending.clone().unwrap_or_else(Ending::completed);
                self.finish_turn(&turn.turn.id, ending, None).await?;
                Ok(Next::Again)
            }
            (Some(_), Some(turn)) => self.mind_interrupt(&turn.turn.id).await,
            (None, Some(turn)) => {
                let beginning = Beginning { restarts: 0, continues: true };
                self.start_agent(turn, beginning, None).await?;
                Ok(Next::Again)
            }
            (_, None) => self.begin_turn().await,
        }
    }

    pub(super) async fn current_turn(&self) -> Result<Option<TurnRow>, TickError> {
        let mut conn = self.engine.store.read().await?;
        Ok(turn::current(&mut conn, &self.session.id).await?)
    }

    /// Begins the next turn in the queue, if the agent is free.
    async fn begin_turn(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let next = turn::next_queued(&mut conn, &self.session.id).await?;
        drop(conn);
        // The state between two turns is kept before the next begins, and what is to be set up is.
        let held = self.keeping || self.is_being_set_up();
        let Some(next) = next.filter(|_| !held) else { return Ok(Next::Wait(INSPECTION)) };
        let Some(run) = &mut self.run else {
            self.start_agent(next, Beginning::default(), None).await?;
            return Ok(Next::Again);
        };
        if run.state.busy {
            // It works on its own account (a background task ended); its idling wakes us.
            return Ok(Next::Wait(INSPECTION));
        }
        run.state.give(next.turn.id.clone());
        run.state.restarts = 0;
        let adapter = agent::adapter(self.session.settings.agent);
        let prompt = adapter.prompt(&next.turn.id, &next.turn.text);
        let progress = run.stored();
        let (session, now) = (self.session.id.clone(), self.engine.now());
        crash::point("before begin");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let exec = &progress.exec;
                let (stdout, stderr) = (progress.stdout, progress.stderr);
                agent_rows::advance(tx, &session, exec, stdout, stderr, &progress.state).await?;
                agent_rows::push_input(tx, &session, exec, &prompt).await?;
                begin(tx, log, &next, now).await
            })
            .await?;
        crash::point("after begin");
        Ok(Next::Again)
    }

    /// A turn is under way. Where its user asked to stop it, the agent is reminded: what is said
    /// before it has come to the prompt stops nothing. If it does not heed, it is ended the hard
    /// way.
    async fn mind_interrupt(&mut self, turn: &TurnId) -> Result<Next, TickError> {
        let (Some(since), Some(run), Some(link)) =
            (self.handle.interrupted_since(turn), &mut self.run, &self.link)
        else {
            return Ok(Next::Wait(INSPECTION));
        };
        if since.elapsed() >= INTERRUPT_PATIENCE {
            return match link.client.signal(&run.exec, libc::SIGKILL).await {
                Ok(()) | Err(agentd::Error::Refused(_)) => Ok(Next::Wait(REMINDER)),
                Err(error) => Err(TickError::Link(error.to_string())),
            };
        }
        if !run.remind(REMINDER) {
            return Ok(Next::Wait(REMINDER));
        }
        let (session, exec) = (self.session.id.clone(), run.exec.clone());
        let interrupt = agent::adapter(self.session.settings.agent).interrupt("interrupt");
        let store = &self.engine.store;
        store
            .write(async move |tx| agent_rows::push_input(tx, &session, &exec, &interrupt).await)
            .await?;
        Ok(Next::Again)
    }

    /// Writes a turn's end: how it went, what it changed, what it cost. Prompts that were said to
    /// it on its way end with it, but for those that came too late: they are turns of their own.
    pub(super) async fn finish_turn(
        &mut self,
        turn: &TurnId,
        ending: Ending,
        death: Option<Death>,
    ) -> Result<(), TickError> {
        let diff = self.diff_stat().await;
        let recorded = self.engine.gateway.recorded(&self.session.id);
        let _ = tokio::time::timeout(METERING, recorded).await;
        let joined = self.run.as_mut().map(|run| std::mem::take(&mut run.state.joined));
        let late = Late::of(ending.outcome, joined, death.as_ref());
        let progress = self.run.as_mut().map(|run| {
            run.state.turn = None;
            run.stored()
        });
        let (session, turn, now) = (self.session.id.clone(), turn.clone(), self.engine.now());
        let keep = self.engine.provider.layering().is_some();
        let keep = keep.then(|| self.new_checkpoint(CheckpointKind::Turn));
        crash::point("before end");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                if let Some(new) = keep
                    && checkpoint::wanted(tx, &session).await?.is_none()
                {
                    checkpoint::want(tx, &new).await?;
                }
                match death {
                    Some(death) => bury(tx, log, &session, Some(&turn), death, now).await?,
                    None => withdraw_asks(tx, log, &session, Some(&turn), now).await?,
                }
                if let Some(p) = progress {
                    let (exec, state) = (&p.exec, &p.state);
                    agent_rows::advance(tx, &session, exec, p.stdout, p.stderr, state).await?;
                }
                let Ending { outcome, failure } = ending;
                let used = usage::of_turn(tx, &turn).await?;
                let ended = EventBody::TurnEnded {
                    outcome,
                    failure: failure.clone(),
                    tokens: used.tokens,
                    cost: used.cost,
                    diff,
                };
                turn::end(tx, &turn, outcome, failure.as_deref(), now).await?;
                log.push(Some(turn), ended);
                for steer in turn::under_way(tx, &session).await? {
                    let id = steer.turn.id;
                    match &late {
                        Late::WithTheAgent(joined) if !joined.contains(&id) => continue,
                        Late::BackInTheQueue(joined) if !joined.contains(&id) => {
                            turn::requeue(tx, &id).await?;
                            continue;
                        }
                        Late::WithTheAgent(_) | Late::BackInTheQueue(_) | Late::Over => {}
                    }
                    turn::end(tx, &id, outcome, failure.as_deref(), now).await?;
                    log.push(
                        Some(id),
                        EventBody::TurnEnded {
                            outcome,
                            failure: failure.clone(),
                            tokens: TokenUsage::default(),
                            cost: MicroUsd::default(),
                            diff: None,
                        },
                    );
                }
                Ok(())
            })
            .await?;
        crash::point("after end");
        self.turn_ended = Some(Instant::now());
        self.mind_latecomers().await
    }

    /// A prompt that was said to a turn as that turn ended is with the agent: it is the turn now.
    pub(super) async fn mind_latecomers(&mut self) -> Result<(), TickError> {
        let current = self.current_turn().await?;
        if let (Some(run), Some(turn)) = (&mut self.run, current)
            && run.state.turn.is_none()
        {
            run.state.give(turn.turn.id);
        }
        Ok(())
    }

    /// Ends the turn under way because its session is being set aside.
    pub(super) async fn end_work(&mut self) -> Result<(), TickError> {
        let Some(turn) = self.current_turn().await? else { return Ok(()) };
        let mut conn = self.engine.store.read().await?;
        let row = agent_rows::get(&mut conn, &self.session.id).await?;
        drop(conn);
        self.run = None;
        let reason = "the session was stopped".to_owned();
        let death = row.map(|row| Death::of(row.exec, Some(reason)));
        self.finish_turn(&turn.turn.id, Ending::interrupted(), death).await
    }

    /// Fails every turn that waits, because the session cannot have its sandbox.
    pub(super) async fn fail_queue(&mut self, why: &str) -> Result<(), TickError> {
        let (session, now, why) = (self.session.id.clone(), self.engine.now(), why.to_owned());
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let mut failed: Vec<_> = turn::current(tx, &session).await?.into_iter().collect();
                failed.extend(turn::queued(tx, &session).await?);
                for row in failed {
                    let outcome = TurnOutcome::Failed;
                    turn::end(tx, &row.turn.id, outcome, Some(&why), now).await?;
                    let ended = EventBody::TurnEnded {
                        outcome,
                        failure: Some(why.clone()),
                        tokens: TokenUsage::default(),
                        cost: MicroUsd::default(),
                        diff: None,
                    };
                    log.push(Some(row.turn.id), ended);
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// What becomes of prompts that were said to a turn and that it did not come to.
#[derive(Debug)]
enum Late {
    /// The agent has them and takes them up next, but for these, which it came to.
    WithTheAgent(Vec<TurnId>),
    /// The agent died: another gets them, but for these.
    BackInTheQueue(Vec<TurnId>),
    /// They end with the turn.
    Over,
}

impl Late {
    fn of(outcome: TurnOutcome, joined: Option<Vec<TurnId>>, death: Option<&Death>) -> Self {
        match (outcome, death, joined) {
            (TurnOutcome::Completed, Some(death), _) => Self::BackInTheQueue(death.joined.clone()),
            (TurnOutcome::Completed | TurnOutcome::Failed, None, Some(joined)) => {
                Self::WithTheAgent(joined)
            }
            _ => Self::Over,
        }
    }
}

/// Writes that a turn began.
pub(super) async fn begin(
    tx: &mut Tx,
    log: &mut NewEvents,
    row: &TurnRow,
    now: Timestamp,
) -> StoreResult<()> {
    turn::begin(tx, &row.turn.id, now).await?;
    log.push(Some(row.turn.id.clone()), EventBody::TurnStarted {});
    Ok(())
}
