//! A turn: a prompt and what the agent made of it.

use serde::{Deserialize, Serialize};

use crate::{SessionId, Timestamp, TurnId, TurnState};

/// Body of `POST /v1/sessions/{id}/turns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateTurn {
    /// What to do. Up to 4 MiB.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4_194_304))]
    pub text: String,
    /// Say it to the turn under way (steering) rather than after it. With no turn under way it
    /// is an ordinary prompt.
    #[serde(default)]
    pub steer: bool,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TurnOutcome {
    /// The agent finished.
    Completed,
    /// The agent, or the model behind it, failed.
    Failed,
    /// Its user stopped it.
    Interrupted,
    /// Taken out of the queue before it began.
    Cancelled,
}

/// A turn as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Turn {
    /// Its id.
    pub id: TurnId,
    /// Whose it is.
    pub session: SessionId,
    /// Its place in the session's queue, from 1.
    pub number: i64,
    /// The prompt.
    pub text: String,
    /// Where it is.
    pub state: TurnState,
    /// How it ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<TurnOutcome>,
    /// Why it failed, in words, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When the agent began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}
