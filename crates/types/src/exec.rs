//! Commands run in a session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ExecId, ExecStream, Timestamp};

/// Body of `POST /v1/sessions/{id}/execs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateExec {
    /// Program and arguments.
    #[cfg_attr(feature = "openapi", schema(min_items = 1, max_items = 10_000))]
    pub command: Vec<String>,
    /// Where to run it; the workspace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub cwd: Option<String>,
    /// Environment on top of the session's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Run as the sandbox's root, where the session allows it.
    #[serde(default)]
    pub root: bool,
    /// Keep standard input open for `POST …/execs/{exec}/stdin`.
    #[serde(default)]
    pub stdin: bool,
    /// Kill it after this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 604_800))]
    pub timeout_seconds: Option<u32>,
}

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecState {
    /// Under way.
    Running,
    /// Over; see code or signal.
    Exited,
    /// Its sandbox ended under it.
    Lost,
}

/// A command as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it is.
    pub state: ExecState,
    /// Exit code, if it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When it began.
    pub started_at: Timestamp,
}

/// A signal that can be sent to a command, by its name without `SIG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Signal {
    /// Interrupt, as Ctrl-C sends it.
    Int,
    /// Please end.
    Term,
    /// End now.
    Kill,
    /// The terminal is gone.
    Hup,
    /// Quit, as Ctrl-\ sends it.
    Quit,
    /// Means what the program says.
    Usr1,
    /// Means what the program says.
    Usr2,
    /// Stop until `CONT`.
    Stop,
    /// Go on.
    Cont,
}

impl Signal {
    /// The name, without `SIG`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
            Self::Hup => "HUP",
            Self::Quit => "QUIT",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// Body of `POST /v1/sessions/{id}/execs/{exec}/signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignalExec {
    /// Which signal, for the command's whole process group.
    pub signal: Signal,
}

/// Answer of `POST /v1/sessions/{id}/execs/{exec}/stdin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExecInput {
    /// Bytes of standard input the command was given so far: the offset of the next.
    pub offset: u64,
}

/// One line (NDJSON) or server-sent event of `GET …/execs/{exec}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ExecFrame {
    /// The command began; always first.
    Started {
        /// Its id.
        id: ExecId,
    },
    /// It printed something.
    Output {
        /// Where.
        stream: ExecStream,
        /// Offset of the first byte in that stream.
        offset: u64,
        /// The bytes, in base64.
        data: String,
    },
    /// It ended; always last.
    Exited {
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// The kernel ended a process of the sandbox for want of memory while it ran.
        #[serde(default)]
        out_of_memory: bool,
    },
    /// The command's fate is unknown: its sandbox ended under it.
    Lost {
        /// What happened.
        reason: String,
    },
}
