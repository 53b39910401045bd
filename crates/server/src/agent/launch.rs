//! What an agent is started with.

use std::{collections::BTreeMap, fmt};

use rclaude_types::PermissionMode;
use uuid::Uuid;

/// What the engine knows when it starts an agent.
#[derive(Clone)]
pub struct Launch {
    /// The agent's binary, as a path in the sandbox.
    pub binary: String,
    /// The agent's own name for the conversation, chosen by us before the first start.
    pub agent_session: Uuid,
    /// The conversation exists in the sandbox's home: take it up.
    pub resume: bool,
    /// Its last turn was cut short and is to be run again. Without this a turn that was stopped
    /// stays so.
    pub continues: bool,
    /// The model, in the agent's vocabulary; its default if absent.
    pub model: Option<String>,
    /// What it may do without asking.
    pub permission_mode: PermissionMode,
    /// Where the model's API is, as seen in the sandbox.
    pub gateway_url: String,
    /// The session's token for the gateway; all that the sandbox ever holds.
    pub token: String,
    /// Environment of every process in the session (proxy variables included).
    pub env: BTreeMap<String, String>,
    /// Text for the end of the system prompt. The kernel bounds one argument at 128 KiB.
    pub append_system_prompt: Option<String>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("binary", &self.binary)
            .field("agent_session", &self.agent_session)
            .field("resume", &self.resume)
            .field("continues", &self.continues)
            .field("model", &self.model)
            .field("permission_mode", &self.permission_mode)
            .field("gateway_url", &self.gateway_url)
            .field("token", &"<redacted>")
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

/// A program to start.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of the environment may be secrets.
        f.debug_struct("Program").field("argv", &self.argv).field("env", &self.env.keys()).finish()
    }
}
