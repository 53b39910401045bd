//! How a call fails.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rclaude_sandbox::agentd;
use rclaude_types::{ErrorCode, Problem};
use serde::Serialize;

/// What went wrong, in the protocol's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::api::e2b) enum Code {
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Internal,
    Unavailable,
    Unauthenticated,
}

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::api::e2b) struct Error {
    pub(super) code: Code,
    pub(super) message: String,
}

impl Error {
    pub(in crate::api::e2b) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(in crate::api::e2b) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// The sandbox went while it was used. Clients look then whether it is still there.
    pub(in crate::api::e2b) fn gone() -> Self {
        Self::new(
            Code::Unavailable,
            "the connection to the sandbox ended before the call was complete",
        )
    }

    pub(in crate::api::e2b) fn code(&self) -> Code {
        self.code
    }
}

impl Code {
    /// The HTTP status of a unary call that fails so.
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let code = match problem.code {
            ErrorCode::FileNotFound
            | ErrorCode::ExecNotFound
            | ErrorCode::TerminalNotFound
            | ErrorCode::SessionNotFound => Code::NotFound,
            ErrorCode::Forbidden => Code::PermissionDenied,
            ErrorCode::InvalidRequest => Code::InvalidArgument,
            ErrorCode::Conflict | ErrorCode::PreconditionFailed => Code::FailedPrecondition,
            ErrorCode::DiskFull | ErrorCode::QuotaExceeded | ErrorCode::TooLarge => {
                Code::ResourceExhausted
            }
            ErrorCode::SandboxUnavailable | ErrorCode::ShuttingDown => Code::Unavailable,
            ErrorCode::AllowanceExhausted => Code::FailedPrecondition,
            _ => Code::Internal,
        };
        Self::new(code, problem.detail)
    }
}

impl From<agentd::Error> for Error {
    fn from(error: agentd::Error) -> Self {
        match error {
            agentd::Error::Refused(problem) => (*problem).into(),
            agentd::Error::Lost(_) => Self::gone(),
            other => Self::new(Code::Internal, other.to_string()),
        }
    }
}
