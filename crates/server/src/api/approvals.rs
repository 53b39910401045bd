//! Approvals: what the agent asks, and the answers.

use axum::{Json as Answer, extract::State};
use rclaude_types::{Approval, ApprovalId, Decision, Page};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, Json, Named, must_exist},
    problem::Result,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(decide))
}

/// Lists what the agent waits for.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/approvals",
    operation_id = "list_approvals",
    tag = "approvals",
    responses((status = 200, description = "All of it, on one page.", body = Page<Approval>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Page<Approval>>> {
    let data = api.sessions.approvals(&id).await?;
    if data.is_empty() {
        must_exist(&api, &id).await?;
    }
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Answers the agent.
///
/// The same answer twice is fine, another one is a conflict.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/approvals/{approval}",
    operation_id = "decide_approval",
    tag = "approvals",
    request_body = Decision,
    responses((status = 200, description = "The approval, resolved.", body = Approval))
)]
pub(super) async fn decide(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(approval): Named<ApprovalId>,
    Json(decision): Json<Decision>,
) -> Result<Answer<Approval>> {
    Ok(Answer(api.sessions.decide(&id, &approval, decision).await?))
}
