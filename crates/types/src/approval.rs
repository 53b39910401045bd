//! What the agent asks its user: a permission, a question, a plan's approval.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ApprovalId, SessionId, Timestamp, TurnId};

/// What sort of answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApprovalKind {
    /// May I use this tool with this input?
    Permission,
    /// Which of these do you want?
    Question,
    /// Shall I carry out this plan?
    Plan,
}

/// Where the asking stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ApprovalState {
    /// Waits for an answer, for ever if need be.
    Pending,
    /// Allowed, or answered.
    Allowed,
    /// Denied.
    Denied,
    /// Overtaken: the agent stopped waiting (interrupt, crash, end of the turn).
    Withdrawn,
}

/// Something the agent asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// Who asks.
    pub session: SessionId,
    /// In which turn; absent where the agent works on its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// What sort of answer is wanted.
    pub kind: ApprovalKind,
    /// Where it stands.
    pub state: ApprovalState,
    /// The tool it wants to use, by its name.
    pub tool: String,
    /// The tool call it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call: Option<String>,
    /// One line for a person: what will happen if allowed.
    pub title: String,
    /// The tool's input as the agent would run it.
    pub input: Value,
    /// Why the agent asks, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to choose from, for a question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Question>,
    /// Whether "always" means something here.
    pub can_always: bool,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
}

/// One question of possibly several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Question {
    /// The question; also the key of its answer.
    pub question: String,
    /// A heading of a word or two.
    #[serde(default)]
    pub header: String,
    /// What to choose from; free text is always allowed too.
    pub options: Vec<QuestionOption>,
    /// Whether several may be chosen.
    #[serde(default)]
    pub multi_select: bool,
}

/// One choice of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QuestionOption {
    /// What to answer for it.
    pub label: String,
    /// What it means.
    #[serde(default)]
    pub description: String,
}

/// Body of `POST /v1/sessions/{id}/approvals/{approval}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Decision {
    /// Go on.
    Allow {
        /// Do not ask again for the like.
        #[serde(default)]
        always: bool,
        /// Run it with this input instead.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
        /// For a question: answers by question; several choices are joined by `, `.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answers: Option<BTreeMap<String, String>>,
    },
    /// Do not.
    Deny {
        /// What to tell the agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Stop the turn as well.
        #[serde(default)]
        interrupt: bool,
    },
}
