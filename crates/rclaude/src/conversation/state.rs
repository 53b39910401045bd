//! What the log has told of a session so far, as far as its follower has to know.

use std::collections::BTreeSet;

use rclaude_types::{
    Approval, ApprovalId, Event, EventBody, Seq, Session, SessionStatus, TurnState,
};

/// What is known, and what was said about it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they vary independently")]
pub(super) struct State {
    history: Seq,
    seen: Seq,
    pending: Vec<Approval>,
    working: bool,
    interrupting: bool,
    waits: Option<String>,
    /// It was said how to answer these.
    told: BTreeSet<ApprovalId>,
    said_lost: bool,
    invited: bool,
    edited: bool,
}

impl State {
    /// A session as it was when `history` was its last entry. `expecting`: a turn is on its way.
    pub(super) fn new(session: &Session, history: Seq, expecting: bool) -> Self {
        let turn = session.current_turn.as_ref();
        let under_way = turn.is_some_and(|turn| turn.state != TurnState::Ended);
        Self {
            history,
            seen: 0,
            pending: session.pending_approvals.clone(),
            working: expecting || under_way,
            interrupting: false,
            waits: (expecting || under_way).then(|| "waiting for the session".to_owned()),
            told: BTreeSet::new(),
            said_lost: false,
            invited: false,
            edited: false,
        }
    }

    /// Takes an entry of the log; whether it settled something that was asked.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        self.seen = self.seen.max(event.seq);
        match &event.body {
            // What was asked in history and is still open came with the session itself.
            EventBody::ApprovalRequested { approval } if event.seq > self.history => {
                self.pending.push((**approval).clone());
            }
            EventBody::ApprovalResolved { id, .. } => {
                self.answered(id);
                return true;
            }
            // Which turn of history is still under way came with the session, too.
            EventBody::TurnStarted {} if event.seq > self.history => self.working = true,
            EventBody::TurnEnded { .. } if event.seq > self.history => {
                self.working = false;
                self.interrupting = false;
                self.waits = None;
            }
            _ => {}
        }
        false
    }

    /// Whether everything that was history has been seen.
    pub(super) const fn is_live(&self) -> bool {
        self.seen >= self.history
    }

    pub(super) const fn is_working(&self) -> bool {
        self.working
    }

    pub(super) fn is_pending(&self, id: &ApprovalId) -> bool {
        self.pending.iter().any(|approval| approval.id == *id)
    }

    pub(super) fn next_question(&self) -> Option<Approval> {
        self.pending.first().cloned()
    }

    pub(super) fn answered(&mut self, id: &ApprovalId) {
        self.pending.retain(|approval| approval.id != *id);
    }

    /// Whether it has yet to be said how to answer this; it has afterwards.
    pub(super) fn say_how(&mut self, id: &ApprovalId) -> bool {
        self.told.insert(id.clone())
    }

    /// Whether it is time for a prompt's mark; it is there afterwards.
    pub(super) fn invite(&mut self) -> bool {
        !self.working && !std::mem::replace(&mut self.invited, true)
    }

    /// A line was typed after the mark, or shown: it has to be put again.
    pub(super) const fn mark_used(&mut self) {
        self.invited = false;
    }

    /// A prompt was sent: a turn is on its way, or under way already.
    pub(super) fn expect_turn(&mut self) {
        if !self.working {
            self.working = true;
            self.waits = Some("waiting for the turn to begin".to_owned());
        }
    }

    /// Whether an interrupt was sent before; it has been afterwards.
    pub(super) const fn interrupting(&mut self) -> bool {
        std::mem::replace(&mut self.interrupting, true)
    }

    pub(super) const fn said_lost(&mut self) {
        self.said_lost = true;
    }

    /// Whether the loss of the connection was spoken of.
    pub(super) const fn restored(&mut self) -> bool {
        std::mem::replace(&mut self.said_lost, false)
    }

    pub(super) const fn set_edited(&mut self) {
        self.edited = true;
    }

    /// Whether an editor ran since this was asked last.
    pub(super) const fn edited(&mut self) -> bool {
        std::mem::replace(&mut self.edited, false)
    }

    pub(super) fn wait_for(&mut self, what: String) {
        self.waits = Some(what);
    }

    /// What is waited for; nothing while somebody has to answer or may type.
    pub(super) fn waits(&self) -> Option<&str> {
        let nothing = !self.working || (self.is_live() && !self.pending.is_empty());
        if nothing { None } else { self.waits.as_deref() }
    }
}

/// What a session is waiting for after an event, where that changed.
pub(super) fn waits_for(body: &EventBody) -> Option<String> {
    Some(match body {
        EventBody::StatusChanged { status: SessionStatus::Starting, .. } => {
            "starting the sandbox".to_owned()
        }
        EventBody::TurnQueued { .. } => "waiting for the turn to begin".to_owned(),
        EventBody::TurnStarted {} => "starting the agent".to_owned(),
        EventBody::AgentStarted { .. }
        | EventBody::Message { .. }
        | EventBody::Thought { .. }
        | EventBody::ToolResult { parent: None, .. }
        | EventBody::ApprovalResolved { .. } => "the agent is thinking".to_owned(),
        EventBody::ThoughtDelta { .. } => "the agent is thinking".to_owned(),
        EventBody::MessageDelta { .. } => "the agent is writing".to_owned(),
        EventBody::ToolCall { title, parent: None, .. } => crate::ui::clean_line(title),
        EventBody::AgentExited { .. } => "the agent ended; it is started again".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::example_session;

    fn event(seq: Seq, kind: &str) -> Event {
        let mut event = json!({ "seq": seq, "at": "2026-11-21T07:00:00Z", "type": kind });
        if kind == "turn_ended" {
            event["outcome"] = "completed".into();
            event["cost"] = 0.into();
            event["tokens"] = json!(rclaude_types::TokenUsage::default());
        }
        if kind == "approval_requested" {
            let mut approval = json!(example_session().pending_approvals[0]);
            approval["id"] = json!(ApprovalId::generate());
            event["approval"] = approval;
        }
        serde_json::from_value(event).unwrap()
    }

    fn idle() -> Session {
        Session { current_turn: None, pending_approvals: vec![], ..example_session() }
    }

    #[test]
    fn what_history_began_is_not_taken_for_something_under_way() {
        let mut state = State::new(&idle(), 42, false);
        for (seq, kind) in [(40, "turn_started"), (41, "approval_requested"), (42, "turn_ended")] {
            assert!(!state.is_live());
            state.take(&event(seq, kind));
        }
        assert!(state.is_live() && !state.is_working() && state.next_question().is_none());
        assert!(state.invite() && !state.invite());
        state.take(&event(43, "turn_started"));
        assert!(state.is_working() && !state.invite());
    }

    #[test]
    fn what_a_session_waited_for_is_asked_until_it_is_answered() {
        let session = example_session();
        let id = session.pending_approvals[0].id.clone();
        let mut state = State::new(&session, 42, false);
        assert!(state.is_working() && state.is_pending(&id));
        assert!(state.say_how(&id) && !state.say_how(&id));
        let resolved = json!({ "seq": 43, "at": "2026-11-21T07:00:00Z", "id": id,
            "type": "approval_resolved", "state": "allowed" });
        assert!(state.take(&serde_json::from_value(resolved).unwrap()));
        assert_eq!(state.next_question(), None);
    }

    #[test]
    fn one_interrupt_serves_one_turn() {
        let mut state = State::new(&idle(), 0, true);
        assert!(!state.interrupting() && state.interrupting());
        state.take(&event(1, "turn_ended"));
        assert!(!state.interrupting());
    }
}
