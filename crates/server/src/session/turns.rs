//! Turns: beginning the next, ending the one that is done, and what becomes of one whose agent
//! died.

use std::time::Duration;

use rclaude_sandbox::agentd;
use rclaude_store::{
    Result as StoreResult, Tx, agent as agent_rows, session,
    turn::{self, TurnRow},
    usage,
};
use rclaude_types::{EventBody, ExecId, MicroUsd, NoticeLevel, Timestamp, TokenUsage, TurnId};
use uuid::Uuid;

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    agent_run::{AgentRun, Exit},
    log::{NewEvents, withdraw_asks},
    run_state::{Ending, RunState},
};
use crate::agent;

/// How often an agent that dies in mid-turn is started again before the turn is given up.
const RESTARTS: u32 = 2;
/// How long an agent may take to heed an interrupt before it is ended.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(10);
/// How long the last request of a turn may take to be metered.
const METERING: Duration = Duration::from_secs(2);

/// The end of a process of the agent, as far as it has not been written yet.
#[derive(Debug, Clone)]
struct Death {
    exec: ExecId,
    code: Option<i32>,
    signal: Option<i32>,
    reason: Option<String>,
    /// The conversation it was to take up is not there.
    conversation_lost: bool,
}

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
            self.send_input().await?;
        }
        match (&self.run, self.current_turn().await?) {
            (Some(run), Some(turn)) if run.state.is_done() => {
                let ending = run.state.ending.clone().unwrap_or_else(Ending::completed);
                self.finish_turn(&turn.turn.id, ending, None).await?;
                Ok(Next::Again)
            }
            (Some(_), Some(_)) => self.mind_interrupt().await,
            (None, Some(turn)) => {
                self.start_agent(Some(turn), 0, None).await?;
                Ok(Next::Again)
            }
            (_, None) => self.begin_turn().await,
        }
    }

    async fn current_turn(&self) -> Result<Option<TurnRow>, TickError> {
        let mut conn = self.engine.store.read().await?;
        Ok(turn::current(&mut conn, &self.session.id).await?)
    }

    /// Goes on with the process that the store tells of, if there is one.
    async fn pick_up_run(&mut self) -> Result<(), TickError> {
        let mut conn = self.engine.store.read().await?;
        let row = agent_rows::get(&mut conn, &self.session.id).await?;
        drop(conn);
        let (Some(row), Some(link)) = (row, &self.link) else { return Ok(()) };
        let state = match serde_json::from_value::<RunState>(row.translator) {
            Ok(state) => state,
            Err(error) => {
                let why = format!("what was stored of it cannot be read ({error})");
                return self.agent_did_not_start(row.exec, &why).await;
            }
        };
        let client = link.client.clone();
        let process = self.process(state.agent_session, state.resumed);
        match client.start(&row.exec, &process).await {
            Ok(info) => {
                let (exec, stderr, sent) = (row.exec, row.stderr_offset, info.stdin_accepted);
                let run = AgentRun::follow(&self.engine, client, exec, state, stderr, sent);
                self.run = Some(run);
                Ok(())
            }
            Err(agentd::Error::Refused(problem)) => {
                self.agent_did_not_start(row.exec, &problem.detail).await
            }
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// Begins the next turn in the queue, if the agent is free.
    async fn begin_turn(&mut self) -> Result<Next, TickError> {
        let mut conn = self.engine.store.read().await?;
        let next = turn::next_queued(&mut conn, &self.session.id).await?;
        drop(conn);
        let Some(next) = next else { return Ok(Next::Wait(INSPECTION)) };
        let Some(run) = &mut self.run else {
            self.start_agent(Some(next), 0, None).await?;
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
        self.handle.clear_interrupt();
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let exec = &progress.exec;
                let (stdout, stderr) = (progress.stdout, progress.stderr);
                agent_rows::advance(tx, &session, exec, stdout, stderr, &progress.state).await?;
                agent_rows::push_input(tx, &session, exec, &prompt).await?;
                begin(tx, log, &next, now).await
            })
            .await?;
        Ok(Next::Again)
    }

    /// Starts the agent for a turn, in place of one that died if there was one. Everything needed
    /// to do so again is stored first; the next tick picks it up.
    async fn start_agent(
        &mut self,
        turn: Option<TurnRow>,
        restarts: u32,
        death: Option<Death>,
    ) -> Result<(), TickError> {
        let lost = death.as_ref().is_some_and(|death| death.conversation_lost);
        let (conversation, resume) = self.conversation(lost).await?;
        let adapter = agent::adapter(self.session.settings.agent);
        let translator = adapter.translator(&self.launch(conversation, resume));
        let mut state = RunState::new(translator, conversation, resume);
        state.restarts = restarts;
        // The agent knows a prompt by its turn: what it had already, it does not do again.
        let prompt = turn.as_ref().map(|row| {
            state.give(row.turn.id.clone());
            adapter.prompt(&row.turn.id, &row.turn.text)
        });
        let (session, sandbox) = (self.session.id.clone(), self.sandbox.id.clone());
        let (state, now) = (state.to_json(), self.engine.now());
        self.run = None;
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                if let Some(death) = death {
                    bury(tx, log, &session, turn.as_ref().map(|row| &row.turn.id), death, now)
                        .await?;
                }
                let exec = ExecId::generate();
                let name = conversation.to_string();
                session::set_agent_session(tx, &session, Some(&name), now).await?;
                agent_rows::begin(tx, &session, &exec, &sandbox, &state, now).await?;
                if let Some(prompt) = prompt {
                    agent_rows::push_input(tx, &session, &exec, &prompt).await?;
                }
                match turn {
                    Some(turn) if turn.turn.started_at.is_none() => {
                        begin(tx, log, &turn, now).await
                    }
                    _ => Ok(()),
                }
            })
            .await?;
        Ok(())
    }

    /// The conversation to take up, or a new one's name.
    async fn conversation(&self, lost: bool) -> Result<(Uuid, bool), TickError> {
        let known = self.session.agent_session_id.as_deref().and_then(|id| id.parse().ok());
        let (Some(known), Some(link), false) = (known, &self.link, lost) else {
            return Ok((Uuid::now_v7(), false));
        };
        let adapter = agent::adapter(self.session.settings.agent);
        match link.client.stat(&adapter.transcript(known)).await {
            Ok(_) => Ok((known, true)),
            // It died before it wrote anything down.
            Err(agentd::Error::Refused(_)) => Ok((Uuid::now_v7(), false)),
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// The agent's process ended. In mid-turn it is started again and takes the conversation up
    /// where it was, unless that would not help.
    async fn agent_ended(&mut self, exit: &Exit) -> Result<(), TickError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let starved = exit.signal == Some(libc::SIGKILL) && self.ran_out_of_memory().await;
        let reason = if starved {
            let limit = self.session.settings.resources.memory_mib;
            Some(format!("out of memory: the sandbox's limit is {limit} MiB"))
        } else if run.state.resume_failed {
            Some("its earlier conversation was not found; a new one begins".to_owned())
        } else {
            None
        };
        let death = Death {
            exec: run.exec.clone(),
            code: exit.code,
            signal: exit.signal,
            reason: reason.clone(),
            conversation_lost: run.state.resume_failed,
        };
        let Some(turn) = self.current_turn().await? else {
            return self.bury(None, death).await;
        };
        let ending = if run.state.taken && run.state.ending.is_some() {
            run.state.ending.clone()
        } else if self.handle.interrupted_since().is_some() {
            Some(Ending::interrupted())
        } else if starved || run.state.restarts >= RESTARTS {
            Some(Ending::failed(reason.unwrap_or_else(|| {
                format!(
                    "the agent {} and starting it again did not help; the log has what it printed",
                    describe(exit)
                )
            })))
        } else {
            None
        };
        match ending {
            Some(ending) => self.finish_turn(&turn.turn.id, ending, Some(death)).await,
            None => {
                tracing::warn!(session.id = %self.session.id, how = describe(exit), "agent restarted");
                self.start_agent(Some(turn), run.state.restarts + 1, Some(death)).await
            }
        }
    }

    async fn bury(&self, turn: Option<TurnId>, death: Death) -> Result<(), TickError> {
        let (session, now) = (self.session.id.clone(), self.engine.now());
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                bury(tx, log, &session, turn.as_ref(), death, now).await
            })
            .await?;
        Ok(())
    }

    /// The daemon could not start the agent at all.
    async fn agent_did_not_start(&mut self, exec: ExecId, why: &str) -> Result<(), TickError> {
        let failure = format!("the agent could not be started: {why}");
        let reason = Some(failure.clone());
        let death = Death { exec, code: None, signal: None, reason, conversation_lost: false };
        match self.current_turn().await? {
            Some(turn) => {
                self.finish_turn(&turn.turn.id, Ending::failed(failure), Some(death)).await
            }
            None => self.bury(None, death).await,
        }
    }

    /// A turn is under way. Where its user asked to stop it and the agent does not heed, it is
    /// ended the hard way.
    async fn mind_interrupt(&mut self) -> Result<Next, TickError> {
        let (Some(since), Some(run), Some(link)) =
            (self.handle.interrupted_since(), &self.run, &self.link)
        else {
            return Ok(Next::Wait(INSPECTION));
        };
        let waited = since.elapsed();
        if waited < INTERRUPT_PATIENCE {
            return Ok(Next::Wait(INTERRUPT_PATIENCE - waited));
        }
        match link.client.signal(&run.exec, libc::SIGKILL).await {
            Ok(()) | Err(agentd::Error::Refused(_)) => Ok(Next::Wait(Duration::from_secs(1))),
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// Writes a turn's end: how it went, what it changed, what it cost. Prompts that were said to
    /// it on its way end with it.
    async fn finish_turn(
        &mut self,
        turn: &TurnId,
        ending: Ending,
        death: Option<Death>,
    ) -> Result<(), TickError> {
        let diff = self.diff_stat().await;
        let recorded = self.engine.gateway.recorded(&self.session.id);
        let _ = tokio::time::timeout(METERING, recorded).await;
        self.handle.clear_interrupt();
        let progress = self.run.as_mut().map(|run| {
            run.state.turn = None;
            run.stored()
        });
        let (session, turn, now) = (self.session.id.clone(), turn.clone(), self.engine.now());
        self.engine
            .commit(&self.session.id, async move |tx, log| {
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
                while let Some(steer) = turn::current(tx, &session).await? {
                    let id = steer.turn.id;
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
        Ok(())
    }

    /// Ends the turn under way because its session is being set aside.
    pub(super) async fn end_work(&mut self) -> Result<(), TickError> {
        let Some(turn) = self.current_turn().await? else { return Ok(()) };
        let mut conn = self.engine.store.read().await?;
        let row = agent_rows::get(&mut conn, &self.session.id).await?;
        drop(conn);
        self.run = None;
        let death = row.map(|row| Death {
            exec: row.exec,
            code: None,
            signal: None,
            reason: Some("the session was stopped".to_owned()),
            conversation_lost: false,
        });
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
                    let outcome = rclaude_types::TurnOutcome::Failed;
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

/// Writes that a turn began.
async fn begin(tx: &mut Tx, log: &mut NewEvents, row: &TurnRow, now: Timestamp) -> StoreResult<()> {
    turn::begin(tx, &row.turn.id, now).await?;
    log.push(Some(row.turn.id.clone()), EventBody::TurnStarted {});
    Ok(())
}

/// Writes that a process of the agent is over, with all that it waited for.
async fn bury(
    tx: &mut Tx,
    log: &mut NewEvents,
    session: &rclaude_types::SessionId,
    turn: Option<&TurnId>,
    death: Death,
    now: Timestamp,
) -> StoreResult<()> {
    let Death { exec, code, signal, reason, conversation_lost } = death;
    agent_rows::end(tx, session, &exec).await?;
    withdraw_asks(tx, log, session, turn, now).await?;
    if conversation_lost {
        session::set_agent_session(tx, session, None, now).await?;
        let text = "the agent's earlier conversation could not be found; it begins a new one";
        log.notice(turn.cloned(), NoticeLevel::Warning, "conversation_lost", text);
    }
    log.push(turn.cloned(), EventBody::AgentExited { code, signal, reason });
    Ok(())
}

fn describe(exit: &Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended with its sandbox".to_owned(),
    }
}
