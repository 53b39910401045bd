//! Answers of the gateway's own, in the shape of the API's errors.
//!
//! Claude Code retries 401, 408, 409, 429 and 5xx for minutes unless told not to by
//! `x-should-retry: false`; it gives up at once on 402, 403 and 413.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;

pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub(super) const NO_RETRY: HeaderValue = HeaderValue::from_static("false");

/// Why a request is not answered by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token, a forged one, or another session's.
    Token,
    /// Nothing the gateway forwards.
    Endpoint { method: String, path: String },
    /// The server has no key for the model API.
    NoKey,
    /// The model API does not take the server's key.
    KeyRefused,
    /// More than the gateway forwards.
    TooLarge { limit: usize },
    /// The model API cannot be reached; with the cause.
    Unreachable { host: String, cause: String },
    /// It was reached, and hung up before it answered.
    Broken { host: String, cause: String },
    /// It did not begin to answer in time.
    TimedOut { host: String, seconds: u64 },
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Endpoint { .. } => StatusCode::NOT_FOUND,
            Self::NoKey | Self::KeyRefused => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unreachable { .. } | Self::Broken { .. } => StatusCode::BAD_GATEWAY,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Token => "authentication_error",
            Self::Endpoint { .. } => "not_found_error",
            Self::NoKey | Self::KeyRefused => "permission_error",
            Self::TooLarge { .. } => "request_too_large",
            Self::Unreachable { .. } | Self::Broken { .. } => "api_error",
            Self::TimedOut { .. } => "timeout_error",
        }
    }

    /// Whether asking again may help.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Broken { .. } | Self::TimedOut { .. })
    }

    fn message(&self) -> String {
        match self {
            Self::Token => "This model gateway takes only the token of the session whose sandbox \
                the request comes from. In a sandbox it is in ANTHROPIC_AUTH_TOKEN."
                .to_owned(),
            Self::Endpoint { method, path } => format!(
                "The model gateway does not offer {method} {path}. It offers POST /v1/messages, \
                 POST /v1/messages/count_tokens and GET /v1/models."
            ),
            Self::NoKey => "No API key for the model is configured on the Remote Claude server. \
                Its operator has to set one in the server's configuration."
                .to_owned(),
            Self::KeyRefused => "The API key configured on the Remote Claude server was refused \
                by the model API. Its operator has to replace the key; the session's own token \
                is fine."
                .to_owned(),
            Self::TooLarge { limit } => {
                format!("The request is larger than the {} MiB that are forwarded.", limit >> 20)
            }
            Self::Unreachable { host, cause } => {
                format!("The model gateway cannot reach the model API at {host}: {cause}.")
            }
            Self::Broken { host, cause } => {
                format!("The model API at {host} hung up before it answered: {cause}.")
            }
            Self::TimedOut { host, seconds } => {
                format!("The model API at {host} did not begin to answer in {seconds} s.")
            }
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let error = json!({ "type": self.kind(), "message": self.message() });
        let body = json!({ "type": "error", "error": error }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !self.may_pass() {
            headers.insert(SHOULD_RETRY, NO_RETRY);
        }
        response
    }
}
