//! What a session used.

use axum::{Json as Answer, extract::State};
use rclaude_types::UsageSummary;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, must_exist},
    problem::Result,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Shows tokens and cost, as the gateway metered them.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/usage",
    operation_id = "get_usage",
    tag = "sessions",
    responses((status = 200, description = "In all and by model.", body = UsageSummary))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<UsageSummary>> {
    let usage = api.sessions.usage(&id).await?;
    if usage.requests == 0 {
        must_exist(&api, &id).await?;
    }
    Ok(Answer(usage))
}
