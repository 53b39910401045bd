//! A session: the durable thing its owner sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Approval, CheckpointId, CreateTurn, Desired, LifePolicy, MicroUsd, Origin, Phase, SandboxId,
    Seq, SessionId, SessionStatus, Timestamp, Turn,
};

/// Which coding program works in the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AgentKind {
    /// Claude Code.
    #[default]
    ClaudeCode,
}

/// What the agent may do without asking. The words are Claude Code's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PermissionMode {
    /// Asks before anything that changes something.
    #[default]
    Default,
    /// Edits files without asking, asks for the rest.
    AcceptEdits,
    /// Asks nothing: the sandbox is the wall.
    BypassPermissions,
    /// Reads and plans, changes nothing until the plan is approved.
    Plan,
    /// Refuses what it would have to ask for.
    DontAsk,
}

/// Where a session's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RepositorySource {
    /// A URL, `owner/name` on the default forge, or an absolute path on the server's host.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub url: String,
    /// Branch, tag or commit to start from; the remote's default branch if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 255))]
    pub branch: Option<String>,
    /// For a path: bring uncommitted and untracked (not ignored) files along.
    #[serde(default)]
    pub include_uncommitted: bool,
}

/// What a sandbox may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Resources {
    /// Thousandths of a CPU.
    #[cfg_attr(feature = "openapi", schema(minimum = 100, maximum = 256_000))]
    pub cpu_millis: u32,
    /// Memory in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 64, maximum = 4_194_304))]
    pub memory_mib: u32,
    /// Processes and threads.
    #[cfg_attr(feature = "openapi", schema(minimum = 16, maximum = 100_000))]
    pub pids: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu_millis: 2_000, memory_mib: 4_096, pids: 2_048 }
    }
}

/// Body of `POST /v1/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateSession {
    /// A name to call it by; made up if absent. Lower-case letters, digits and `-`, unique
    /// among the sessions that exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Where the files come from; an empty workspace if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositorySource>,
    /// The first prompt; a session without one waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<CreateTurn>,
    /// Which coding program.
    pub agent: AgentKind,
    /// The model, in the agent's vocabulary; its default if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub model: Option<String>,
    /// What the agent may do without asking.
    pub permission_mode: PermissionMode,
    /// Environment of every process in the sandbox.
    pub env: BTreeMap<String, String>,
    /// What the sandbox may use.
    pub resources: Resources,
    /// What the sandbox's system is made of; `host` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub template: Option<String>,
    /// Lets processes in the sandbox run as its root (never the host's).
    pub allow_root: bool,
    /// Labels of the caller's, for filters.
    pub labels: BTreeMap<String, String>,
    /// A shell script that the agent's user runs in the workspace before the first prompt: what
    /// it installs is part of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 65_536))]
    pub setup: Option<String>,
    /// When it is set aside by itself, and what is kept how often.
    pub life: LifePolicy,
}

/// Body of `PATCH /v1/sessions/{id}`: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateSession {
    /// A new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Another model, from the next request on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub model: Option<String>,
    /// Another permission mode, at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission_mode: Option<PermissionMode>,
    /// Another policy, in place of the whole one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life: Option<LifePolicy>,
}

/// A session as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its name, unique among the sessions that exist.
    pub name: String,
    /// What it is doing.
    pub status: SessionStatus,
    /// Why it failed, in words, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What its owner wants.
    pub desired: Desired,
    /// Where its sandbox is.
    pub phase: Phase,
    /// Since when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase_since: Option<Timestamp>,
    /// The current incarnation of its machine.
    pub sandbox: SandboxId,
    /// Where its files came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositorySource>,
    /// The commit its work is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// The branch its work is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Which coding program works in it.
    pub agent: AgentKind,
    /// The model asked for; the agent's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the agent may do without asking.
    pub permission_mode: PermissionMode,
    /// Environment variables by name; values are not shown.
    pub env: Vec<String>,
    /// What its sandbox may use.
    pub resources: Resources,
    /// What its sandbox's system is made of.
    pub template: String,
    /// Whether processes may run as the sandbox's root.
    pub allow_root: bool,
    /// Labels of the caller's.
    pub labels: BTreeMap<String, String>,
    /// When it is set aside by itself, and what is kept how often.
    #[serde(default)]
    pub life: LifePolicy,
    /// Why it is wanted as it is, where that was not its owner's wish: `idle`, `pressure`, `age`,
    /// `ttl`, `max_running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_reason: Option<String>,
    /// Where it came from, if from another session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Its newest checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_checkpoint: Option<CheckpointId>,
    /// The turn under way, or the next in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_turn: Option<Turn>,
    /// What the agent waits for.
    pub pending_approvals: Vec<Approval>,
    /// Cost so far, as the gateway metered it.
    pub cost: MicroUsd,
    /// The last entry of its log.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub last_seq: Seq,
    /// When it was made.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
}

/// How a diff is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum DiffFormat {
    /// Files with counts, and the patch.
    #[default]
    Full,
    /// Files with counts alone.
    Stat,
}

/// How a session's files differ from where they began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionDiff {
    /// What is compared with; absent without a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// Counts.
    pub stat: DiffStat,
    /// A patch that `git apply` takes, binary files included; absent if not asked for. Where it
    /// is not valid UTF-8 it is in `patch_base64` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The same patch's bytes in base64, where they are not valid UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_base64: Option<String>,
}

/// A diff in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffStat {
    /// Files that differ.
    pub files: Vec<DiffStatFile>,
    /// Lines added in all.
    pub insertions: u64,
    /// Lines removed in all.
    pub deletions: u64,
}

/// One file of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiffStatFile {
    /// Its path in the repository, with bytes that are not UTF-8 replaced.
    pub path: String,
    /// Lines added; absent for a binary file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insertions: Option<u64>,
    /// Lines removed; absent for a binary file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletions: Option<u64>,
}
