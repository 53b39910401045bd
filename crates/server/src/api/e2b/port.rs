//! Ports of a sandbox other than its daemon's: where programs inside it serve.
//!
//! As with E2B, whoever knows the sandbox's id may see what it serves: an id is not to be guessed.
//! What is asked for is passed on as a [preview](crate::preview) is, and words of our own are E2B's
//! proxy's.

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use rclaude_types::SessionId;
use serde_json::json;

use super::target::{Target, not_found};
use crate::{api::Api, preview::Unanswered};

/// Answers a request for a port: as the program there does.
pub(super) async fn answer(
    api: &Api,
    session: &SessionId,
    target: &Target,
    request: Request,
) -> Response {
    match api.sessions.lent(session).await {
        Ok(lent) if lent.is_running() || lent.lease.auto_resume => {}
        _ => return not_found(&target.name),
    }
    let authority = authority(request.uri(), request.headers());
    match api.previews.pass_on(session, target.port, authority, request).await {
        Ok(response) => response,
        Err(Unanswered::Closed) => closed(target),
        Err(Unanswered::Away) => not_found(&target.name),
    }
}

/// The name by which the sandbox was called.
fn authority(uri: &Uri, headers: &HeaderMap) -> String {
    let host = || headers.get(header::HOST)?.to_str().ok();
    uri.authority().map(Authority::as_str).or_else(host).unwrap_or_default().to_owned()
}

fn closed(Target { name, port }: &Target) -> Response {
    let body = json!({
        "sandboxId": name, "message": "The sandbox is running but port is not open", "port": port,
        "code": 502
    });
    (StatusCode::BAD_GATEWAY, axum::Json(body)).into_response()
}
