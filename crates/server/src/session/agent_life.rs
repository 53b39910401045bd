//! The agent's process: starting it, taking it up again after a restart of ours, and what becomes
//! of its turn when it dies.

use rclaude_sandbox::agentd;
use rclaude_store::{
    Result as StoreResult, Tx, agent as agent_rows, session,
    turn::{self, TurnRow},
};
use rclaude_types::{
    EventBody, ExecId, NoticeLevel, OnInterrupted, SessionId, Timestamp, TurnId, TurnOutcome,
    agentd::ProcessInfo,
};
use uuid::Uuid;

use super::{
    actor::{Actor, TickError},
    agent_run::{AgentRun, Exit},
    feeder::Mouth,
    log::{NewEvents, withdraw_asks},
    run_state::{Ending, RunState},
    turns::begin,
};
use crate::{agent, crash};

/// How often an agent that dies in mid-turn is started again before the turn is given up.
const RESTARTS: u32 = 2;
/// Turns that are looked at for one in which the agent came to an end.
const RECENT: u32 = 20;

/// The end of a process of the agent, as far as it has not been written yet.
#[derive(Debug, Clone)]
pub(super) struct Death {
    pub(super) exec: ExecId,
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) reason: Option<String>,
    /// The conversation it was to take up is not there.
    pub(super) conversation_lost: bool,
    /// Prompts said to its turn that had reached it.
    pub(super) joined: Vec<TurnId>,
}

impl Death {
    /// The end of a process that nothing is known of but this.
    pub(super) fn of(exec: ExecId, reason: Option<String>) -> Self {
        let joined = Vec::new();
        Self { exec, code: None, signal: None, reason, conversation_lost: false, joined }
    }
}

/// Where a process of the agent begins: anew, or in the middle of a turn.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beginning {
    /// How often it was started again within the turn.
    pub(super) restarts: u32,
    /// The turn had begun and was cut short.
    pub(super) continues: bool,
}

impl Actor {
    /// Goes on with the process that the store tells of, if there is one.
    pub(super) async fn pick_up_run(&mut self) -> Result<(), TickError> {
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
        if row.sandbox != self.sandbox.id {
            return self.agent_vanished(row.exec, state).await;
        }
        crash::point("before start");
        match client.start(&row.exec, &self.process(&state)).await {
            Ok(info) if is_another(&info, &state, row.stderr_offset) => {
                self.agent_vanished(row.exec, state).await
            }
            Ok(info) => {
                crash::point("after start");
                let (session, accepted) = (self.session.id.clone(), info.stdin_accepted);
                let mouth = Mouth { session, exec: row.exec, client, accepted };
                let run = AgentRun::follow(&self.engine, mouth, state, row.stderr_offset);
                self.run = Some(run);
                self.mind_latecomers().await
            }
            Err(agentd::Error::Refused(problem)) => {
                self.agent_did_not_start(row.exec, &problem.detail).await
            }
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// Starts the agent for a turn, in place of one that died if there was one. Everything needed
    /// to do so again is stored first; the next tick picks it up.
    pub(super) async fn start_agent(
        &mut self,
        turn: TurnRow,
        beginning: Beginning,
        death: Option<Death>,
    ) -> Result<(), TickError> {
        let lost = death.as_ref().is_some_and(|death| death.conversation_lost);
        let found = if lost { None } else { self.conversation().await? };
        let (conversation, resume, forgotten) = match found {
            None => (Uuid::now_v7(), false, false),
            Some((known, true)) => (known, true, false),
            // It died before it wrote anything down, or what it wrote is gone.
            Some((_, false)) => (Uuid::now_v7(), false, self.has_spoken(&turn.turn.id).await?),
        };
        let adapter = agent::adapter(self.session.settings.agent);
        let continues = resume && beginning.continues;
        let translator = adapter.translator(&self.launch(conversation, resume, continues));
        let mut state = RunState::new(translator, conversation, resume);
        state.restarts = beginning.restarts;
        state.continues = continues;
        state.give(turn.turn.id.clone());
        let (session, sandbox) = (self.session.id.clone(), self.sandbox.id.clone());
        let (state, now) = (state.to_json(), self.engine.now());
        self.run = None;
        crash::point("before launch");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                if let Some(death) = death {
                    bury(tx, log, &session, Some(&turn.turn.id), death, now).await?;
                }
                if forgotten {
                    tell_lost(log, Some(&turn.turn.id));
                }
                let exec = ExecId::generate();
                let name = conversation.to_string();
                session::set_agent_session(tx, &session, Some(&name), now).await?;
                agent_rows::begin(tx, &session, &exec, &sandbox, &state, now).await?;
                if turn.turn.started_at.is_none() {
                    begin(tx, log, &turn, now).await?;
                }
                // The agent knows a prompt by its turn: what it had already, it does not do
                // again. What was said to the turn on its way is said again too.
                for row in turn::under_way(tx, &session).await? {
                    let prompt = adapter.prompt(&row.turn.id, &row.turn.text);
                    agent_rows::push_input(tx, &session, &exec, &prompt).await?;
                }
                Ok(())
            })
            .await?;
        crash::point("after launch");
        Ok(())
    }

    /// The conversation that is known of, and whether it is on the disk.
    async fn conversation(&self) -> Result<Option<(Uuid, bool)>, TickError> {
        let known = self.session.agent_session_id.as_deref().and_then(|id| id.parse().ok());
        let (Some(known), Some(link)) = (known, &self.link) else { return Ok(None) };
        let adapter = agent::adapter(self.session.settings.agent);
        match link.client.stat(&adapter.transcript(known)).await {
            Ok(_) => Ok(Some((known, true))),
            Err(agentd::Error::Refused(_)) => Ok(Some((known, false))),
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// Whether the agent finished a turn before this one, here or where the session comes from, so
    /// that there was a conversation to lose.
    async fn has_spoken(&self, now: &TurnId) -> Result<bool, TickError> {
        let mut conn = self.engine.store.read().await?;
        for id in turn::last_begun(&mut conn, &self.session.id, RECENT).await? {
            let turn = turn::get(&mut conn, &id).await?.turn;
            if id != *now && turn.outcome == Some(TurnOutcome::Completed) {
                return Ok(true);
            }
        }
        Ok(self.session.origin.is_some())
    }

    /// The agent's process ended. In mid-turn it is started again and takes the conversation up
    /// where it was, unless that would not help.
    pub(super) async fn agent_ended(&mut self, exit: &Exit) -> Result<(), TickError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        let exec = run.exec.clone();
        self.outlive(run, exit).await?;
        // All it said is stored: its journal is needed no more. One that a crash of ours leaves
        // goes with the sandbox.
        if let Some(link) = &self.link {
            let _ = link.client.forget(&exec).await;
        }
        Ok(())
    }

    async fn outlive(&mut self, run: AgentRun, exit: &Exit) -> Result<(), TickError> {
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
            joined: run.state.joined,
        };
        let Some(turn) = self.current_turn().await? else {
            return self.bury(None, death).await;
        };
        let ending = if run.state.taken && run.state.ending.is_some() {
            run.state.ending.clone()
        } else if self.handle.interrupted_since(&turn.turn.id).is_some() {
            Some(Ending::interrupted())
        } else if exit.is_with_sandbox() && self.offers() {
            self.offer().await?;
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
        if let Some(ending) = ending {
            return self.finish_turn(&turn.turn.id, ending, Some(death)).await;
        }
        tracing::warn!(session.id = %self.session.id, how = describe(exit), "agent restarted");
        let beginning = Beginning {
            restarts: run.state.restarts + 1,
            // Once it had the prompt, its conversation holds a turn that was cut short.
            continues: run.state.taken || run.state.continues,
        };
        self.start_agent(turn, beginning, Some(death)).await
    }

    async fn bury(&self, turn: Option<TurnId>, death: Death) -> Result<(), TickError> {
        let (session, now) = (self.session.id.clone(), self.engine.now());
        crash::point("before bury");
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                bury(tx, log, &session, turn.as_ref(), death, now).await
            })
            .await?;
        crash::point("after bury");
        Ok(())
    }

    /// The daemon knows nothing of the process that the store tells of: its sandbox was replaced,
    /// or its disk lost what was last written to it.
    async fn agent_vanished(&mut self, exec: ExecId, state: RunState) -> Result<(), TickError> {
        let reason = Some("it vanished with its sandbox".to_owned());
        let death = Death::of(exec, reason);
        match self.current_turn().await? {
            Some(turn) if self.offers() => {
                self.offer().await?;
                self.finish_turn(&turn.turn.id, Ending::interrupted(), Some(death)).await
            }
            Some(turn) => {
                let continues = state.taken || state.continues;
                let beginning = Beginning { restarts: state.restarts, continues };
                self.start_agent(turn, beginning, Some(death)).await
            }
            None => self.bury(None, death).await,
        }
    }

    /// Whether a turn that was cut short with its sandbox is for its owner to send again.
    fn offers(&self) -> bool {
        self.session.settings.life.on_interrupted == OnInterrupted::Offer
    }

    /// Tells the owner that it is.
    async fn offer(&self) -> Result<(), TickError> {
        let text = "the turn was cut short when its sandbox ended; send its prompt again to have \
                    the agent go on with it";
        self.notice(NoticeLevel::Warning, "turn_offered", text).await
    }

    /// The daemon could not start the agent at all.
    async fn agent_did_not_start(&mut self, exec: ExecId, why: &str) -> Result<(), TickError> {
        let failure = format!("the agent could not be started: {why}");
        let reason = Some(failure.clone());
        let death = Death::of(exec, reason);
        match self.current_turn().await? {
            Some(turn) => {
                self.finish_turn(&turn.turn.id, Ending::failed(failure), Some(death)).await
            }
            None => self.bury(None, death).await,
        }
    }
}

/// Writes that a process of the agent is over, with all that it waited for.
pub(super) async fn bury(
    tx: &mut Tx,
    log: &mut NewEvents,
    session: &SessionId,
    turn: Option<&TurnId>,
    death: Death,
    now: Timestamp,
) -> StoreResult<()> {
    let Death { exec, code, signal, reason, conversation_lost, joined: _ } = death;
    agent_rows::end(tx, session, &exec).await?;
    withdraw_asks(tx, log, session, turn, now).await?;
    if conversation_lost {
        session::set_agent_session(tx, session, None, now).await?;
        tell_lost(log, turn);
    }
    log.push(turn.cloned(), EventBody::AgentExited { code, signal, reason });
    Ok(())
}

/// Tells the owner that the agent remembers nothing.
fn tell_lost(log: &mut NewEvents, turn: Option<&TurnId>) {
    let text = "the agent's earlier conversation could not be found; it begins a new one";
    log.notice(turn.cloned(), NoticeLevel::Warning, "conversation_lost", text);
}

/// Whether a process that was adopted or started is not the one that was read so far, because it
/// printed less than was read.
fn is_another(info: &ProcessInfo, state: &RunState, stderr: u64) -> bool {
    info.stdout_bytes < state.translator.offset() || info.stderr_bytes < stderr
}

fn describe(exit: &Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        (Some(code), None) => format!("exited with code {code}"),
        (None, None) => "ended with its sandbox".to_owned(),
    }
}
