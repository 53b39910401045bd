//! How long a session stays how far awake.

use serde::{Deserialize, Serialize};

/// How far a session is set aside: what stays of it on the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Depth {
    /// Memory and processes: they stand still, and go on in a millisecond. Where the host cannot
    /// freeze processes this is `hibernate`.
    #[default]
    Freeze,
    /// Files, conversation and environment: processes end.
    Hibernate,
    /// Nothing: all of it lies in the snapshot store.
    Archive,
}

/// Body of `POST /v1/sessions/{id}/pause`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PauseSession {
    /// How far.
    pub depth: Depth,
}

/// What becomes of a turn that was cut short because its sandbox ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum OnInterrupted {
    /// The agent goes on with it.
    #[default]
    Continue,
    /// It ends as interrupted, and its owner decides.
    Offer,
}

/// When a session is set aside by itself, and what is kept how often. What is absent is as the
/// server has it. Running out of any allowance sets the session aside and never ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LifePolicy {
    /// Seconds without agent work, commands or viewers after which it freezes; 0 never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 31_536_000))]
    pub idle_seconds: Option<u32>,
    /// It may freeze although a command runs or the agent waits for an answer.
    pub freeze_busy: bool,
    /// For so many seconds from when this was set it does not freeze by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 31_536_000))]
    pub keep_alive_seconds: Option<u32>,
    /// So many seconds after it was made it hibernates, and wakes only when this is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 315_360_000))]
    pub ttl_seconds: Option<u32>,
    /// After so many seconds of running in all it hibernates, and wakes only when this is raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 315_360_000))]
    pub max_running_seconds: Option<u32>,
    /// While it works, a checkpoint every so many seconds; 0 only when a turn ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 86_400))]
    pub checkpoint_seconds: Option<u32>,
    /// What becomes of a turn that was cut short because its sandbox ended.
    pub on_interrupted: OnInterrupted,
}
