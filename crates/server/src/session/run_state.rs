//! What is known of the agent's process, as it is stored beside the offset it was read up to.
//!
//! [`digest`] is the heart: pure, from signals to what must be written. Whoever restarts the server
//! in mid-line loads this, reads on at the offset, and is where the dead server was.

use rclaude_types::{EventBody, NoticeLevel, TurnId, TurnOutcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::agent::{Ask, Signal, Translator};

/// One process of the agent, from its start to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each as the agent told it")]
pub(super) struct RunState {
    /// Between-lines state of the adapter.
    pub(super) translator: Translator,
    /// The agent's name for the conversation.
    pub(super) agent_session: Uuid,
    /// It was told to take up an earlier conversation.
    pub(super) resumed: bool,
    /// It was told to run that conversation's last turn again.
    #[serde(default)]
    pub(super) continues: bool,
    /// It says that it is at work.
    pub(super) busy: bool,
    /// The turn whose prompt it was given.
    pub(super) turn: Option<TurnId>,
    /// It has begun with that prompt.
    pub(super) taken: bool,
    /// It will do no more for that prompt, unless it takes it up again.
    pub(super) over: bool,
    /// It waited for a prompt after that.
    pub(super) idled: bool,
    /// Prompts said to that turn on its way which it has begun with, or is done with.
    #[serde(default)]
    pub(super) joined: Vec<TurnId>,
    /// What it last said came of it.
    pub(super) ending: Option<Ending>,
    /// How often the process was started again within that turn.
    pub(super) restarts: u32,
    /// It could not find the conversation it was told to take up.
    pub(super) resume_failed: bool,
}

/// What the agent said came of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) outcome: TurnOutcome,
    pub(super) failure: Option<String>,
}

impl Ending {
    pub(super) fn completed() -> Self {
        Self { outcome: TurnOutcome::Completed, failure: None }
    }

    pub(super) fn interrupted() -> Self {
        Self { outcome: TurnOutcome::Interrupted, failure: None }
    }

    pub(super) fn failed(why: String) -> Self {
        Self { outcome: TurnOutcome::Failed, failure: Some(why) }
    }
}

impl RunState {
    pub(super) fn new(translator: Translator, agent_session: Uuid, resumed: bool) -> Self {
        Self {
            translator,
            agent_session,
            resumed,
            continues: false,
            busy: false,
            turn: None,
            taken: false,
            over: false,
            idled: false,
            joined: Vec::new(),
            ending: None,
            restarts: 0,
            resume_failed: false,
        }
    }

    /// As it is stored.
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("strings, numbers and maps with string keys")
    }

    /// Gives it a prompt.
    pub(super) fn give(&mut self, turn: TurnId) {
        self.turn = Some(turn);
        self.taken = false;
        self.over = false;
        self.idled = false;
        self.joined.clear();
        self.ending = None;
    }

    /// A prompt that was said to the turn under way has reached the agent.
    fn join(&mut self, turn: TurnId) {
        if self.turn.is_some() && !self.joined.contains(&turn) {
            self.joined.push(turn);
        }
    }

    /// The turn is over and its end can be written.
    ///
    /// One `result` is not one prompt: the agent also works on its own account (a background task
    /// ended), and what it reports of that, before it took our prompt, is not our turn's end. A
    /// prompt that it recognises as done before a restart is over at once, and it idles without
    /// another result; one that was interrupted is over at once too, but then runs again.
    pub(super) fn is_done(&self) -> bool {
        let answered = (self.taken || self.over) && self.ending.is_some();
        let known = self.resumed && self.over && self.idled;
        self.turn.is_some() && !self.busy && (answered || known)
    }
}

/// What signals amount to: all of it is written in one transaction.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Digest {
    /// In the order of the output; asks are events too.
    pub(super) entries: Vec<Entry>,
    /// Requests of the agent's that it no longer waits for.
    pub(super) withdrawn: Vec<String>,
    /// The name by which the conversation is taken up again; it changes when it is cleared.
    pub(super) agent_session: Option<String>,
    /// What must be said to the agent at once.
    pub(super) replies: Vec<Vec<u8>>,
}

/// One entry for the log.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Event(EventBody),
    Asked(Ask),
}

/// Makes of signals what must be written, and brings the state up to date.
pub(super) fn digest(state: &mut RunState, signals: Vec<Signal>) -> Digest {
    let mut digest = Digest::default();
    for signal in signals {
        match signal {
            Signal::Event(body) => digest.entries.push(Entry::Event(body)),
            Signal::Asked(ask) => digest.entries.push(Entry::Asked(ask)),
            Signal::Withdrawn { agent_request } => digest.withdrawn.push(agent_request),
            Signal::Busy => {
                state.busy = true;
                state.idled = false;
            }
            Signal::Idle => {
                state.busy = false;
                state.idled = state.over;
            }
            Signal::PromptTaken { turn } if state.turn.as_ref() == Some(&turn) => {
                state.taken = true;
                state.busy = true;
            }
            Signal::PromptOver { turn, cancelled } if state.turn.as_ref() == Some(&turn) => {
                state.over = true;
                // One that is to be run again after a resume counts as cancelled before.
                if cancelled && (state.taken || !state.continues) && state.ending.is_none() {
                    state.ending = Some(Ending::interrupted());
                }
            }
            // A prompt said to a turn under way shares that turn's end.
            Signal::PromptTaken { turn } | Signal::PromptOver { turn, .. } => state.join(turn),
            Signal::Result(result) => {
                // One without our turn is of work on its own account.
                if state.turn.as_ref().is_some_and(|turn| result.turns.contains(turn)) {
                    let (outcome, failure) = (result.outcome, result.failure);
                    state.ending = Some(Ending { outcome, failure });
                }
            }
            Signal::Identity { agent_session } => digest.agent_session = Some(agent_session),
            Signal::ResumeFailed => state.resume_failed = true,
            // It exits, and is started again to resume what is there.
            Signal::AlreadyExists => {}
            Signal::Reply(bytes) => digest.replies.push(bytes),
            Signal::Control(answer) => {
                if let Err(why) = answer.outcome {
                    digest.entries.push(Entry::Event(EventBody::Notice {
                        level: NoticeLevel::Warning,
                        code: "agent_refused_request".to_owned(),
                        message: format!("the agent refused a request: {why}"),
                    }));
                }
            }
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use rclaude_types::PermissionMode;

    use super::*;
    use crate::agent::{self, Launch, TurnResult};

    fn fresh(resumed: bool) -> RunState {
        let launch = Launch {
            binary: "claude".to_owned(),
            agent_session: Uuid::nil(),
            resume: resumed,
            continues: false,
            model: None,
            permission_mode: PermissionMode::Default,
            gateway_url: "http://gateway".to_owned(),
            token: "token".to_owned(),
            env: [].into(),
            append_system_prompt: None,
        };
        let translator = agent::adapter(rclaude_types::AgentKind::ClaudeCode).translator(&launch);
        RunState::new(translator, Uuid::nil(), resumed)
    }

    fn taken(turn: &TurnId) -> Signal {
        Signal::PromptTaken { turn: turn.clone() }
    }

    fn over(turn: &TurnId) -> Signal {
        Signal::PromptOver { turn: turn.clone(), cancelled: false }
    }

    fn result(outcome: TurnOutcome, turns: &[&TurnId]) -> Signal {
        let turns = turns.iter().map(|turn| (*turn).clone()).collect();
        Signal::Result(TurnResult { outcome, failure: None, api_status: None, turns })
    }

    #[test]
    fn a_turn_is_done_once_its_prompt_was_taken_answered_and_the_agent_idles() {
        let (mut state, turn) = (fresh(false), TurnId::generate());
        state.give(turn.clone());
        for signal in [taken(&turn), result(TurnOutcome::Completed, &[&turn]), over(&turn)] {
            digest(&mut state, vec![signal]);
            assert!(!state.is_done());
        }
        digest(&mut state, vec![Signal::Idle]);
        assert!(state.is_done());
        assert_eq!(state.ending, Some(Ending::completed()));
    }

    #[test]
    fn work_on_the_agents_own_account_does_not_end_a_turn_that_it_has_not_begun() {
        let (mut state, turn) = (fresh(false), TurnId::generate());
        digest(&mut state, vec![Signal::Busy]);
        state.give(turn.clone());
        digest(&mut state, vec![result(TurnOutcome::Completed, &[]), Signal::Idle]);
        assert!(!state.is_done());
        let failed = result(TurnOutcome::Failed, &[&turn]);
        digest(&mut state, vec![taken(&turn), failed, result(TurnOutcome::Completed, &[])]);
        digest(&mut state, vec![Signal::Idle]);
        assert!(state.is_done());
        assert_eq!(state.ending.map(|ending| ending.outcome), Some(TurnOutcome::Failed));
    }

    #[test]
    fn a_resumed_agent_that_knows_the_prompt_as_done_ends_the_turn_without_another_result() {
        let (mut state, turn) = (fresh(true), TurnId::generate());
        state.give(turn.clone());
        digest(&mut state, vec![over(&turn)]);
        assert!(!state.is_done());
        digest(&mut state, vec![Signal::Idle]);
        assert!(state.is_done());
    }

    #[test]
    fn a_resumed_agent_that_runs_the_turn_again_ends_it_with_that_runs_result() {
        let (mut state, turn) = (fresh(true), TurnId::generate());
        state.give(turn.clone());
        digest(&mut state, vec![Signal::Busy, over(&turn), taken(&turn)]);
        assert!(!state.is_done());
        let result = result(TurnOutcome::Completed, &[&turn]);
        digest(&mut state, vec![result, Signal::Idle]);
        assert!(state.is_done());
    }

    #[test]
    fn a_prompt_that_was_taken_back_before_the_agent_came_to_it_ends_its_turn() {
        let cancelled = |turn: &TurnId| Signal::PromptOver { turn: turn.clone(), cancelled: true };
        let (mut state, turn) = (fresh(false), TurnId::generate());
        state.give(turn.clone());
        digest(&mut state, vec![cancelled(&turn)]);
        assert!(state.is_done());
        assert_eq!(state.ending, Some(Ending::interrupted()));
        // Not so where the turn is to be run again.
        let mut state = fresh(true);
        state.continues = true;
        state.give(turn.clone());
        digest(&mut state, vec![cancelled(&turn)]);
        assert!(!state.is_done());
    }

    #[test]
    fn a_prompt_said_to_a_turn_under_way_does_not_change_whose_turn_it_is() {
        let (mut state, turn) = (fresh(false), TurnId::generate());
        state.give(turn.clone());
        let said = TurnId::generate();
        digest(&mut state, vec![taken(&turn), taken(&said), over(&said)]);
        assert_eq!((state.turn, state.joined), (Some(turn), vec![said]));
    }

    #[test]
    fn the_state_reads_back_as_it_was_stored() {
        let (mut state, turn) = (fresh(true), TurnId::generate());
        state.give(turn);
        let stored = state.to_json();
        let read: RunState = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(read.to_json(), stored);
    }
}
