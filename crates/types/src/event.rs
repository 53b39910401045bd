//! The session's log: one ordered, durable list of all that happens in it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Approval, ApprovalId, ApprovalState, Checkpoint, CheckpointId, DiffStat, ExecId, MicroUsd,
    Origin, PermissionMode, RewindScope, SessionId, SessionStatus, Timestamp, TokenUsage, TurnId,
    TurnOutcome,
};

/// Position in one session's log. The first entry is 1; 0 is before it.
pub type Seq = i64;

/// One entry of a session's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Its position.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub seq: Seq,
    /// When it was written.
    pub at: Timestamp,
    /// The turn it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened. New kinds may be added at any time: readers skip those they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventBody {
    /// The session was made; always the first entry.
    SessionCreated {
        /// Its name.
        name: String,
        /// Where it came from, if from another session.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    },
    /// Its status changed.
    StatusChanged {
        /// To this.
        status: SessionStatus,
        /// Why, where that needs saying.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A prompt was queued.
    TurnQueued {
        /// The prompt.
        text: String,
        /// Said to the turn under way.
        #[serde(default)]
        steer: bool,
    },
    /// The agent began with it.
    TurnStarted {},
    /// It is over.
    TurnEnded {
        /// How it ended.
        outcome: TurnOutcome,
        /// Why it failed, in words, where it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
        /// What it used, as the gateway metered it.
        tokens: TokenUsage,
        /// What that cost.
        cost: MicroUsd,
        /// How the session's files now differ from where they began, with a repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        diff: Option<DiffStat>,
    },
    /// The agent's process began, or said what it runs with.
    AgentStarted {
        /// Its version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// The model it uses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The tools it has.
        #[serde(default)]
        tools: Vec<String>,
        /// It took up an earlier conversation.
        #[serde(default)]
        resumed: bool,
    },
    /// The agent's process ended.
    AgentExited {
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why, where we know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A part of a message still being written; the whole follows as `message`.
    MessageDelta {
        /// The message it is part of.
        id: String,
        /// The part.
        text: String,
        /// The tool call of the sub-agent that writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// Somebody said something.
    Message {
        /// Its id, unique in the session.
        id: String,
        /// Who.
        role: Role,
        /// What.
        text: String,
        /// The tool call of the sub-agent that said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// A part of a thought; the whole follows as `thought`.
    ThoughtDelta {
        /// The thought it is part of.
        id: String,
        /// The part.
        text: String,
        /// The tool call of the sub-agent that thinks it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The agent thought something.
    Thought {
        /// Its id, unique in the session.
        id: String,
        /// What.
        text: String,
        /// The tool call of the sub-agent that thought it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The agent uses a tool.
    ToolCall {
        /// Its id, unique in the session.
        id: String,
        /// The tool's name.
        name: String,
        /// What sort of tool.
        kind: ToolKind,
        /// One line for a person.
        title: String,
        /// What it is given.
        input: Value,
        /// The files it is about.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        locations: Vec<ToolLocation>,
        /// The tool call of the sub-agent that uses it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The tool answered.
    ToolResult {
        /// The call's id.
        id: String,
        /// It failed, or was refused.
        #[serde(default)]
        is_error: bool,
        /// What it printed or returned, as text.
        output: String,
        /// What it changed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        diffs: Vec<FileDiff>,
        /// The tool call of the sub-agent that used it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    },
    /// The agent's list of what it means to do; replaces the one before.
    Plan {
        /// Its entries.
        entries: Vec<PlanEntry>,
    },
    /// The agent asks something.
    ApprovalRequested {
        /// What.
        approval: Box<Approval>,
    },
    /// It was answered, or overtaken.
    ApprovalResolved {
        /// Which.
        id: ApprovalId,
        /// How.
        state: ApprovalState,
        /// What the agent was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The agent says how much it used; the gateway's figures are the ones that count.
    AgentUsage {
        /// Tokens of the turn, as the agent counts.
        tokens: TokenUsage,
        /// Tokens in its context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context_tokens: Option<i64>,
        /// Tokens its context can hold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context_window: Option<i64>,
    },
    /// The model or permission mode changed.
    SettingsChanged {
        /// The model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The permission mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permission_mode: Option<PermissionMode>,
    },
    /// A command was started in the session from outside.
    ExecStarted {
        /// Its id.
        id: ExecId,
        /// Program and arguments.
        command: Vec<String>,
    },
    /// It ended.
    ExecEnded {
        /// Its id.
        id: ExecId,
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why, where it did not end by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Its whole state was kept as a checkpoint.
    CheckpointCreated {
        /// The checkpoint; its `seq` says what it includes.
        checkpoint: Box<Checkpoint>,
    },
    /// It was taken back to an earlier state. What is above in the log stays true of what
    /// happened; files or conversation are no longer what it says.
    Rewound {
        /// The state it was taken back to; how it began if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<CheckpointId>,
        /// The state before, to go back to.
        before: CheckpointId,
        /// What was taken back.
        scope: RewindScope,
    },
    /// Another session was made of one of its states.
    Forked {
        /// The state.
        checkpoint: CheckpointId,
        /// The other session.
        session: SessionId,
    },
    /// Something its owner should know.
    Notice {
        /// How bad.
        level: NoticeLevel,
        /// A stable word for it.
        code: String,
        /// In words.
        message: String,
    },
    /// A line of the agent's that we do not understand, kept as it came.
    Raw {
        /// The line; JSON where it was JSON, else text.
        line: Value,
    },
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Role {
    /// The agent.
    Assistant,
    /// Its user.
    User,
}

/// What sort of tool. The words are the Agent Client Protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ToolKind {
    /// Reads files.
    Read,
    /// Changes files.
    Edit,
    /// Removes files.
    Delete,
    /// Moves files.
    Move,
    /// Searches.
    Search,
    /// Runs a command.
    Execute,
    /// Thinks, plans, delegates.
    Think,
    /// Fetches from the network.
    Fetch,
    /// Anything else.
    Other,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ToolLocation {
    /// The file.
    pub path: String,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// A change to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FileDiff {
    /// The file.
    pub path: String,
    /// Unified hunks, without file headers.
    pub patch: String,
}

/// One entry of the agent's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlanEntry {
    /// What.
    pub content: String,
    /// Where it stands.
    pub status: PlanStatus,
}

/// Where an entry of a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PlanStatus {
    /// Not begun.
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Completed,
}

/// How bad a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NoticeLevel {
    /// For information.
    Info,
    /// Something is amiss, work goes on.
    Warning,
    /// Something failed.
    Error,
}

/// One of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
