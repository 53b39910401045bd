//! What an agent's output amounts to.

use rclaude_types::{ApprovalKind, EventBody, Question, TurnId, TurnOutcome};
use serde_json::Value;

/// One thing that an agent's output says. The order of signals is the order of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Belongs in the session's log as it is.
    Event(EventBody),
    /// The agent's own name for the conversation. Said by every process once, and again when it
    /// changes: after `/clear` the id given at launch still names the conversation before.
    Identity {
        /// What to resume it by.
        agent_session: String,
    },
    /// The agent is at work.
    Busy,
    /// The agent has nothing to do and waits for a prompt. Turns that were taken are over.
    Idle,
    /// The agent took a prompt up; it may be the second time, after a resume.
    PromptTaken {
        /// The turn whose prompt it is.
        turn: TurnId,
    },
    /// The agent will do no more for a prompt. Not the turn's end: a prompt that it recognises
    /// as sent before is over at once, while the turn may run again. Go by `Result` and `Idle`.
    PromptOver {
        /// The turn whose prompt it is.
        turn: TurnId,
        /// It was not carried through (interrupt, failure, taken from the queue).
        cancelled: bool,
    },
    /// The agent asks its user and waits.
    Asked(Ask),
    /// The agent no longer waits for the answer.
    Withdrawn {
        /// Which of its requests.
        agent_request: String,
    },
    /// A run of the agent is over: it answers every prompt taken since the last one. With none
    /// taken the agent worked on its own account (a background task ended). `Idle` follows, but
    /// not before sub-agents in the background are done too; prompts are welcome meanwhile.
    Result(TurnResult),
    /// The conversation to resume is not there: start a new one, and say so. May come twice,
    /// by standard output and standard error; the process exits with code 1.
    ResumeFailed,
    /// The conversation to start is there already: resume it instead. The process exits with
    /// code 1.
    AlreadyExists,
    /// One of our own requests was answered.
    Control(ControlAnswer),
    /// Bytes that must go to the agent's standard input, because it waits for an answer that
    /// nobody else will give.
    Reply(Vec<u8>),
}

/// What the agent asks: the parts of an approval that the agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The agent's id for the request.
    pub agent_request: String,
    /// What sort of answer is wanted.
    pub kind: ApprovalKind,
    /// The tool it wants to use.
    pub tool: String,
    /// The tool call it belongs to.
    pub tool_call: Option<String>,
    /// One line for a person.
    pub title: String,
    /// The tool's input, for a person to judge.
    pub input: Value,
    /// Why the agent asks.
    pub reason: Option<String>,
    /// What to choose from, for a question.
    pub questions: Vec<Question>,
    /// Whether "always" means something here.
    pub can_always: bool,
    /// What [`Adapter::decision`](super::Adapter::decision) needs to answer.
    pub raw: Value,
}

/// How a run of the agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnResult {
    /// How.
    pub outcome: TurnOutcome,
    /// Why it failed, in words that say what to do.
    pub failure: Option<String>,
    /// The HTTP status the model's API failed with.
    pub api_status: Option<u16>,
    /// The turns it answers, as far as the agent says.
    pub turns: Vec<TurnId>,
}

/// The agent's answer to a request of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlAnswer {
    /// The request's id, as we gave it.
    pub request_id: String,
    /// What it answered, or why it refused.
    pub outcome: Result<Value, String>,
}
