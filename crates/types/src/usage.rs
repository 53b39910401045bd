//! What a session used, as the gateway metered it.

use serde::{Deserialize, Serialize};

use crate::MicroUsd;

/// Tokens of one or more requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenUsage {
    /// Read anew.
    pub input: i64,
    /// Written.
    pub output: i64,
    /// Read from the prompt cache.
    pub cache_read: i64,
    /// Written to the five-minute prompt cache.
    pub cache_write_5m: i64,
    /// Written to the one-hour prompt cache.
    pub cache_write_1h: i64,
    /// Web searches and other tools the API ran itself.
    pub server_tool_requests: i64,
}

impl std::ops::Add for TokenUsage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            server_tool_requests: self
                .server_tool_requests
                .saturating_add(other.server_tool_requests),
        }
    }
}

/// What one model was used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageByModel {
    /// The model, as the API names it.
    pub model: String,
    /// Requests, failed ones included.
    pub requests: i64,
    /// Tokens.
    pub tokens: TokenUsage,
    /// Cost.
    pub cost: MicroUsd,
    /// The price was not known: the dearest known was taken.
    pub price_estimated: bool,
}

/// How long a session was how far awake, and what it kept meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TimeUsage {
    /// Microseconds its sandbox ran.
    pub running_micros: i64,
    /// Microseconds it stood still in memory.
    pub frozen_micros: i64,
    /// Microseconds it lay on the local disk alone.
    pub hibernated_micros: i64,
    /// Microseconds it lay in the snapshot store alone.
    pub archived_micros: i64,
    /// Bytes kept times seconds kept.
    pub storage_byte_seconds: i64,
}

/// What a session used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageSummary {
    /// Requests, failed ones included.
    pub requests: i64,
    /// Tokens.
    pub tokens: TokenUsage,
    /// Cost.
    pub cost: MicroUsd,
    /// The same by model.
    pub models: Vec<UsageByModel>,
    /// Time, recorded from the changes of its sandbox; a crash loses at most what passed since
    /// the last heartbeat.
    #[serde(default)]
    pub time: TimeUsage,
}
