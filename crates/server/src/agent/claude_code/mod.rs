//! Claude Code, over the two-way stream of JSON lines that `claude -p` speaks.
//!
//! Written against version 2.1.329 and from recordings of it (`tests/recordings/claude_code`).
//! Newer versions have only ever added fields, so everything is read leniently: what is known
//! is picked out of each line, what is not known becomes a raw event, and nothing is refused.
//!
//! What had to be found out, because it is written nowhere:
//! - Nothing is printed before the first prompt, not even after a resume: a fresh process is
//!   ready for a prompt at once.
//! - A prompt's uuid makes it idempotent, across resumes too. So after any crash the prompt of
//!   the turn under way is simply sent again: a turn that was interrupted is run again once, a
//!   finished one is not, and `idle` ends both.
//! - `/clear` begins a conversation with an id of its own; the old one stays and would be resumed
//!   by the old id.
//! - The mode can be switched to bypassPermissions only if the process was started with
//!   `--allow-dangerously-skip-permissions`.
//! - `result` does not mean "the prompt is done": steering puts several prompts into one, and a
//!   background task that ends makes one of its own. `idle` is the end of work; with a
//!   sub-agent in the background it comes long after the result, with a command before.
//! - Failures of the model's API are results with `subtype: "success"`.
//! - Each `assistant` line carries one content block; several share a message id.

mod ask;
mod blocks;
mod input;
mod json;
mod launch;
mod message;
mod plan;
mod result;
mod stderr;
mod system;
mod tools;
mod translation;

use rclaude_types::{Decision, PermissionMode, TurnId};
use serde_json::Value;
use uuid::Uuid;

use super::{Adapter, Launch, Program, Signal, Translator};

pub(super) use translation::Translation;

/// The adapter.
#[derive(Debug, Clone, Copy)]
pub struct ClaudeCode;

impl Adapter for ClaudeCode {
    fn launch(&self, launch: &Launch) -> Program {
        launch::program(launch)
    }

    fn translator(&self, launch: &Launch) -> Translator {
        Translator::claude_code(Translation::new(launch))
    }

    fn stderr(&self, line: &[u8]) -> Option<Signal> {
        stderr::signal(line)
    }

    fn prompt(&self, turn: &TurnId, text: &str) -> Vec<u8> {
        input::prompt(turn, text)
    }

    fn decision(&self, raw: &Value, decision: &Decision) -> Vec<u8> {
        input::decision(raw, decision)
    }

    fn interrupt(&self, request_id: &str) -> Vec<u8> {
        input::interrupt(request_id)
    }

    fn set_model(&self, request_id: &str, model: &str) -> Vec<u8> {
        input::set_model(request_id, model)
    }

    fn set_permission_mode(&self, request_id: &str, mode: PermissionMode) -> Vec<u8> {
        input::set_permission_mode(request_id, mode)
    }

    fn transcript(&self, agent_session: Uuid) -> String {
        // The working directory with `-` for `/`; see its documentation on sessions.
        format!("/home/agent/.claude/projects/-workspace/{agent_session}.jsonl")
    }

    fn conversations(&self) -> &'static str {
        "/home/agent/.claude/projects"
    }

    fn end_session(&self, request_id: &str) -> Vec<u8> {
        input::end_session(request_id)
    }
}
