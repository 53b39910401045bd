//! What one request to the model used, and who keeps that.

use async_trait::async_trait;
use rclaude_types::{MicroUsd, SessionId, Timestamp, TokenUsage, UsageId};

/// What one request to the model used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// Its id.
    pub id: UsageId,
    /// Whose request.
    pub session: SessionId,
    /// The sub-agent that asked, as Claude Code names it (`x-claude-code-agent-id`).
    pub agent_id: Option<String>,
    /// The agent's own name for its conversation (`x-claude-code-session-id`).
    pub agent_session: Option<String>,
    /// The model that answered, or that was asked for if none did; empty where nobody said.
    pub model: String,
    /// The API's name for the request (`request-id`); agents repeat it in their events.
    pub request_id: Option<String>,
    /// The tokens, with what sub-requests inside the API used.
    pub tokens: TokenUsage,
    /// What they cost.
    pub cost: MicroUsd,
    /// The price table that was used.
    pub price_version: &'static str,
    /// A price was not known, and the dearest known was taken.
    pub price_estimated: bool,
    /// The status the model API answered with. Where it did not answer: what the gateway told the
    /// agent (502, 504, 413), or 499 if the agent did not wait.
    pub status: u16,
    /// The answer broke off, by the API or by the agent. The input is what the API said; the
    /// output is estimated from what arrived, as the API says that only at the end.
    pub interrupted: bool,
    /// When the request arrived.
    pub started_at: Timestamp,
    /// When the last of the answer arrived.
    pub ended_at: Timestamp,
}

/// Keeps usage records.
#[async_trait]
pub trait UsageSink: Send + Sync + 'static {
    /// Keeps a record. Called once for each forwarded request, off the request's own path, with
    /// several at a time; what cannot be kept is the sink's to report.
    async fn record(&self, record: UsageRecord);
}
