//! What a server says of itself and its host.

use serde::{Deserialize, Serialize};

use crate::{SshDoor, Timestamp};

/// Answer of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerStatus {
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Where its data is.
    pub data_dir: String,
    /// Sessions that exist.
    pub sessions: i64,
    /// Sessions with a turn under way.
    pub working: i64,
    /// Where model requests go: `anthropic`, `emulator`, or a URL.
    pub llm_upstream: String,
    /// Where sessions are reached over SSH, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshDoor>,
    /// What the host can isolate.
    pub checks: Vec<HostCheck>,
}

/// How a check of the host came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum HostCheckLevel {
    /// As it should be.
    Ok,
    /// Works, but weaker; the detail says how.
    Weaker,
    /// Sessions cannot run until it is mended.
    Missing,
}

/// One thing `rclaude doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostCheck {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub level: HostCheckLevel,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}
