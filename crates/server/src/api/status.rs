//! What the server says of itself.

use axum::{Json as Answer, extract::State};
use rclaude_types::ServerStatus;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, problem::Result};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Shows the server's version, load and host.
#[utoipa::path(
    get,
    path = "/v1/status",
    operation_id = "get_status",
    tag = "server",
    responses((status = 200, description = "The server.", body = ServerStatus))
)]
pub(super) async fn get(State(api): State<Api>) -> Result<Answer<ServerStatus>> {
    Ok(Answer(api.info.status().await?))
}
