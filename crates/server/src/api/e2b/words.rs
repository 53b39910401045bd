//! Errors in E2B's words: `{"code": <status>, "message": "…"}`. Its SDKs fail on an error without
//! the number in its body.

use axum::{
    Json,
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use rclaude_types::{ErrorCode, Problem};
use serde_json::json;

use crate::api::problem::Carried;

/// An error as E2B has it.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "code": status.as_u16(), "message": message }))).into_response()
}

/// Something that E2B has and this server has not.
pub(super) fn unsupported(what: &str) -> Response {
    error(StatusCode::NOT_IMPLEMENTED, &format!("{what} is not possible on this server"))
}

/// Says a handler's problem in E2B's words.
pub(super) async fn translate(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Carried>() {
        Some(Carried(problem)) => said(&problem),
        // What the framework refuses by itself has no words.
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            error(response.status(), "this method is not for this address")
        }
        None => response,
    }
}

/// A problem in E2B's words.
pub(super) fn said(problem: &Problem) -> Response {
    error(status(problem), &problem.detail)
}

fn status(problem: &Problem) -> StatusCode {
    match problem.code {
        // More sandboxes than there may be: what the SDKs know as a limit.
        ErrorCode::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
