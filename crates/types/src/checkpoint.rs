//! Checkpoints: a session's whole state at one position of its log, and what can be made of it.

use serde::{Deserialize, Serialize};

use crate::{CheckpointId, CreateTurn, Seq, SessionId, Timestamp, TurnId};

/// Why a checkpoint was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CheckpointKind {
    /// A turn ended.
    Turn,
    /// Work went on for a while since the one before.
    Interval,
    /// Somebody asked for it.
    Manual,
    /// The session was about to leave this machine's disk.
    Archive,
    /// The session was about to be rewound: what it was before.
    Rewind,
    /// The session was about to be forked.
    Fork,
    /// What the session went on from: another session's state, an imported one, or what it was
    /// rewound to.
    Origin,
}

impl CheckpointKind {
    /// Whether it may be dropped by age: nobody asked for it by name.
    pub const fn is_automatic(self) -> bool {
        matches!(self, Self::Turn | Self::Interval | Self::Archive | Self::Fork)
    }
}

/// How the files of a checkpoint were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SealMethod {
    /// A snapshot of a btrfs subvolume: the same few milliseconds at any size.
    Btrfs,
    /// What changed, cloned block by block without copying (xfs).
    Reflink,
    /// What changed, copied.
    Copy,
}

/// A session's whole state at one position of its log: files, conversation, environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Checkpoint {
    /// Its id.
    pub id: CheckpointId,
    /// Whose state it is.
    pub session: SessionId,
    /// The last entry of the log it includes.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub seq: Seq,
    /// Why it was made.
    pub kind: CheckpointKind,
    /// Its maker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The turn that had just ended, or was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// How its files were taken.
    pub method: SealMethod,
    /// Bytes that changed since the one before (of the whole writable state with `btrfs`).
    pub bytes: u64,
    /// How long processes stood still for it, in microseconds.
    pub frozen_micros: u64,
    /// It lies in the snapshot store and survives this machine's disk.
    pub stored: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Body of `POST /v1/sessions/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateCheckpoint {
    /// Words to find it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 1000))]
    pub note: Option<String>,
}

/// What a rewind takes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RewindScope {
    /// Files and conversation.
    #[default]
    All,
    /// Files; the agent remembers all that was said.
    Files,
    /// The conversation; files stay as they are.
    Conversation,
}

/// Body of `POST /v1/sessions/{id}/rewind`: to a checkpoint, or back by turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rewind {
    /// The checkpoint to go back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<CheckpointId>,
    /// Go back to before the last so many turns; 1 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 10_000))]
    pub turns: Option<u32>,
    /// What to take back.
    pub scope: RewindScope,
}

/// Body of `POST /v1/sessions/{id}/fork`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fork {
    /// From this checkpoint; from the present state if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<CheckpointId>,
    /// How many; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    pub count: Option<u32>,
    /// The first prompt of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<CreateTurn>,
    /// Another model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub model: Option<String>,
    /// The fork's name; with several, each gets `-1`, `-2`, … behind it. Made up if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9]([a-z0-9-]{0,58}[a-z0-9])?$"))]
    pub name: Option<String>,
}

/// Where a session came from, if from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Origin {
    /// The session it was forked from, or was on the server it was exported from.
    pub session: SessionId,
    /// The checkpoint it began with.
    pub checkpoint: CheckpointId,
}
