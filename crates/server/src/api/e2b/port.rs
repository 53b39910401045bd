//! Ports of a sandbox other than its daemon's: where programs inside it serve.
//!
//! Nothing leads there yet. Whoever makes it so does it in [`answer`], which has the session, the
//! port and the request.

use axum::{
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rclaude_types::SessionId;
use serde_json::json;

use super::target::{Target, not_found};
use crate::api::Api;

/// Answers a request for a port: there is none, as E2B's proxy says it.
pub(super) async fn answer(
    api: &Api,
    session: &SessionId,
    target: &Target,
    _request: Request,
) -> Response {
    match api.sessions.lent(session).await {
        Ok(lent) if lent.is_running() => closed(target),
        _ => not_found(&target.name),
    }
}

fn closed(Target { name, port }: &Target) -> Response {
    let body = json!({
        "sandboxId": name, "message": "The sandbox is running but port is not open", "port": port,
        "code": 502
    });
    (StatusCode::BAD_GATEWAY, axum::Json(body)).into_response()
}
