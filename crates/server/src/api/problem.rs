//! Where an error meets a status code, and nowhere else.
//!
//! A handler refuses with a [`Refusal`], which travels in the response's extensions; the
//! [front](super::front) writes it out last of all, when it knows the request's id. What axum
//! itself refuses (no such route, no such method) comes by with an empty body and is put into
//! words there too.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rclaude_types::{ErrorCode, Problem};

/// Media type of problem details (RFC 9457).
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// What handlers answer with.
pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// A problem on its way out. Boxed: it is far larger than what it takes the place of.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) Box<Problem>);

impl Refusal {
    /// A problem with its detail.
    pub(super) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// `invalid_request`.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

/// How a problem travels in a response's extensions, which want a type that clones.
#[derive(Debug, Clone)]
pub(super) struct Carried(pub(super) Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(Carried(*self.0));
        response
    }
}

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The problem a response stands for: the one it carries, or, for a bare failure of the
/// framework's, one made from its status. `None` for anything else.
pub(super) fn take(response: &mut Response, what: impl FnOnce() -> String) -> Option<Problem> {
    if let Some(Carried(problem)) = response.extensions_mut().remove() {
        return Some(problem);
    }
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || response.headers().contains_key(header::CONTENT_TYPE) {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Problem::new(
            ErrorCode::NotFound,
            format!("there is no {}; GET /v1/openapi.json lists what there is", what()),
        ),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            ErrorCode::MethodNotAllowed,
            format!("{} is not possible; the header `allow` lists what is", what()),
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ErrorCode::TooLarge, what()),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new(ErrorCode::UnsupportedMediaType, what()),
        other if other.is_client_error() => Problem::new(ErrorCode::InvalidRequest, what()),
        _ => Problem::new(ErrorCode::Internal, "the server failed; its log says more"),
    })
}

/// Makes the response say the problem. Headers that say more (`allow`, `content-range`) stay.
pub(super) fn write(response: &mut Response, problem: &Problem) {
    let body = serde_json::to_vec(problem).unwrap_or_default();
    *response.status_mut() = status(problem);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if problem.code == ErrorCode::Unauthenticated {
        let challenge = HeaderValue::from_static("Bearer realm=\"rclaude\"");
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    *response.body_mut() = Body::from(body);
}
