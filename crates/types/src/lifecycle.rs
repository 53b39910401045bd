//! What the owner wants, where the sandbox is, and what callers see: three different things.

use serde::{Deserialize, Serialize};

/// What the owner asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Desired {
    /// Keep it running.
    Running,
    /// Set it aside.
    Paused,
    /// End it.
    Deleted,
}

/// Where the sandbox is. Stored; labels are append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Named by us; the provider has not confirmed it.
    Pending,
    /// The provider is bringing it up.
    Starting,
    /// Up, and its daemon answered the handshake.
    Running,
    /// A pause was asked for.
    Pausing,
    /// Set aside.
    Paused,
    /// A resume was asked for.
    Resuming,
    /// A destroy was asked for.
    Destroying,
    /// Gone on purpose. Terminal.
    Destroyed,
    /// Gone or unusable, not on purpose. A new incarnation may follow.
    Failed(FailureReason),
}

/// Why a sandbox failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum FailureReason {
    /// The provider refused to make it.
    Rejected,
    /// It was there and is no longer.
    Vanished,
    /// It is up but its daemon does not answer.
    AgentUnreachable,
}

impl FailureReason {
    /// Whether a new incarnation may fare better; a refused request would be refused again.
    pub const fn is_worth_another(self) -> bool {
        !matches!(self, Self::Rejected)
    }
}

/// Counts writes to one row; a write names the generation it read.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Generation(pub i64);

/// Where a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum TurnState {
    /// Waiting for the sandbox, or for the turn before it.
    Queued,
    /// The agent is at work.
    Running,
    /// The agent asked something and waits for its user.
    AwaitingInput,
    /// Over; see the outcome.
    Ended,
}

/// What API callers see. Computed, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum SessionStatus {
    /// Being brought up.
    Starting,
    /// Up, nothing to do.
    Idle,
    /// A turn is under way.
    Working,
    /// The agent waits for its user.
    AwaitingInput,
    /// Being set aside, or set aside.
    Paused,
    /// It broke; see the reason.
    Failed,
    /// Being ended, or ended.
    Deleted,
}
