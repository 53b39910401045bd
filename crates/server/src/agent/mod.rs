//! What the session engine knows of a coding agent: how to start it, what its output means, how
//! to talk to it.
//!
//! Everything here but [`install`] is pure. An agent's output lines become [`Signal`]s, our
//! wishes become bytes for its standard input, and neither side does I/O: the daemon in the
//! sandbox keeps what the agent printed, and the engine stores the events made from it, the
//! [`Translator`]'s state and the offset read up to in one transaction. So a server that was
//! killed mid-line goes on exactly where it stopped, and every agent can be tested from
//! recordings of it.
//!
//! One module per agent implements [`Adapter`]; [`adapter`] finds it.

pub mod claude_code;
pub mod install;

mod launch;
mod lines;
mod signal;
mod text;
mod translator;

use rclaude_types::{AgentKind, Decision, PermissionMode, TurnId};
use serde_json::Value;
use uuid::Uuid;

pub use launch::{Launch, Program};
pub use lines::MAX_LINE_BYTES;
pub use signal::{Ask, ControlAnswer, Signal, TurnResult};
pub use text::MAX_TEXT_BYTES;
pub use translator::Translator;

/// One agent's language, both ways.
pub trait Adapter: Send + Sync {
    /// The program to start in the sandbox, as its user `agent`, in the workspace.
    fn launch(&self, launch: &Launch) -> Program;

    /// Understands the output of the process that [`launch`](Self::launch) describes, from its
    /// first byte on.
    fn translator(&self, launch: &Launch) -> Translator;

    /// What a line of the process's standard error means, if anything.
    fn stderr(&self, line: &[u8]) -> Option<Signal>;

    /// A prompt. Sent to an agent at work it is said to the turn under way (steering). Sending
    /// the same turn's prompt again, also after a resume, does nothing the second time.
    fn prompt(&self, turn: &TurnId, text: &str) -> Vec<u8>;

    /// The answer to something asked; `raw` is [`Ask::raw`].
    fn decision(&self, raw: &Value, decision: &Decision) -> Vec<u8>;

    /// Stops the turn under way; harmless with none. Answered by [`Signal::Control`].
    fn interrupt(&self, request_id: &str) -> Vec<u8>;

    /// Another model from the next request on. Answered by [`Signal::Control`].
    fn set_model(&self, request_id: &str, model: &str) -> Vec<u8>;

    /// Another permission mode at once. Answered by [`Signal::Control`].
    fn set_permission_mode(&self, request_id: &str, mode: PermissionMode) -> Vec<u8>;

    /// Where in the sandbox the agent keeps a conversation: absent if it never wrote it down.
    fn transcript(&self, agent_session: Uuid) -> String;

    /// The directory in the sandbox where the agent keeps all conversations.
    fn conversations(&self) -> &'static str;

    /// Asks the process to end. It exits with code 0.
    fn end_session(&self, request_id: &str) -> Vec<u8>;
}

/// The adapter for a kind of agent.
pub fn adapter(kind: AgentKind) -> &'static dyn Adapter {
    match kind {
        AgentKind::ClaudeCode => &claude_code::ClaudeCode,
    }
}
