//! Processes: what is asked for and what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ExecId, Timestamp};

/// Body of `PUT /v1/processes/{id}`: a process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Program and arguments. A program without a slash is looked for along `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment: nothing is added and nothing inherited.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub cwd: String,
    /// Whose rights it has.
    #[serde(default)]
    pub user: User,
    /// Whether it can be written to.
    #[serde(default)]
    pub stdin: Stdin,
    /// Ends the group after this many seconds: TERM, then KILL two seconds later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Keeps the journal until it is deleted, however many processes end after this one.
    #[serde(default)]
    pub keep: bool,
    /// Its starter, by `PUT …?follow=true`, is there for as long as it runs: it waits while that
    /// reader is far behind, what was read is let go, and it is hung up on if the reader leaves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attended: bool,
}

/// Whose rights a process or a file operation has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// Uid and gid 1000, no groups, no capabilities.
    #[default]
    Agent,
    /// The sandbox's root, where the sandbox allows it.
    Root,
}

/// What a process has for standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Closed,
    /// A pipe, fed by `POST …/stdin`.
    Open,
}

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProcessState {
    /// Under way.
    Running {
        /// Its process id inside the sandbox.
        pid: u32,
    },
    /// Over. Exactly one of `code` and `signal` is there.
    Exited {
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// When.
        at: Timestamp,
        /// It was ended because its time was up.
        #[serde(default)]
        timed_out: bool,
        /// The kernel ended a process of the sandbox for want of memory while it ran.
        #[serde(default)]
        out_of_memory: bool,
    },
    /// An earlier daemon started it and ended before it did.
    Lost,
}

impl ProcessState {
    /// Whether nothing more will happen to it.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running { .. })
    }
}

/// A process as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// The name its starter chose.
    pub id: ExecId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it is.
    #[serde(flatten)]
    pub state: ProcessState,
    /// When it began.
    pub started_at: Timestamp,
    /// Bytes of standard output in the journal.
    pub stdout_bytes: u64,
    /// Bytes of standard error in the journal.
    pub stderr_bytes: u64,
    /// Bytes of standard input the process's pipe has taken.
    #[serde(default)]
    pub stdin_accepted: u64,
    /// Its output waits because the disk is full; it goes on when there is room.
    #[serde(default)]
    pub journal_full: bool,
    /// Its journal stays until it is deleted.
    #[serde(default)]
    pub keep: bool,
}

/// Answer of `GET /v1/processes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessList {
    /// All the daemon has a journal of, oldest id first.
    pub data: Vec<ProcessInfo>,
}

/// Answer of `POST /v1/processes/{id}/stdin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinAccepted {
    /// Bytes the process's pipe has taken since its start; the next write's offset.
    pub accepted: u64,
    /// Whether standard input is closed.
    pub closed: bool,
}

/// Body of `POST /v1/processes/{id}/signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    /// Number of the signal, one of those with a name (1 to 31). KILL also reaches what left the group but not the session.
    pub signal: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_a_word_beside_its_facts() {
        let info = ProcessInfo {
            id: "exe_019a2b3c4d5e7f8091a2b3c4d5e6f708".parse().unwrap(),
            argv: vec!["true".to_owned()],
            state: ProcessState::Exited {
                code: Some(0),
                signal: None,
                at: Timestamp::from_micros(1),
                timed_out: false,
                out_of_memory: false,
            },
            started_at: Timestamp::from_micros(0),
            stdout_bytes: 1,
            stderr_bytes: 2,
            stdin_accepted: 0,
            journal_full: false,
            keep: false,
        };
        let json = serde_json::to_value(&info).unwrap();
        assert_eq!((&json["state"], &json["code"]), (&"exited".into(), &0.into()));
        assert_eq!(serde_json::from_value::<ProcessInfo>(json).unwrap(), info);
    }

    #[test]
    fn a_spec_needs_only_a_command_and_a_place() {
        let spec: ProcessSpec = serde_json::from_str(r#"{"argv":["ls"],"cwd":"/"}"#).unwrap();
        assert_eq!((spec.user, spec.stdin, spec.keep), (User::Agent, Stdin::Closed, false));
        assert!(serde_json::from_str::<ProcessSpec>(r#"{"argv":[],"cwd":"/","x":1}"#).is_err());
    }
}
