//! Errors as callers get them: RFC 9457 problem details with a stable code.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, as a stable word. Codes are only ever added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {$(
            $(#[$doc])*
            #[serde(rename = $code)]
            $name,
        )*}

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it goes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// The same in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    /// The request is not well-formed or a value is out of bounds.
    InvalidRequest = "invalid_request", 400, "The request is not valid";
    /// No credentials, or wrong ones.
    Unauthenticated = "unauthenticated", 401, "Credentials are missing or wrong";
    /// The credentials do not reach this far.
    Forbidden = "forbidden", 403, "Not allowed";
    /// No such endpoint.
    NotFound = "not_found", 404, "Not found";
    /// No such session.
    SessionNotFound = "session_not_found", 404, "No such session";
    /// Several sessions start with what was given.
    SessionAmbiguous = "session_ambiguous", 409, "Several sessions match";
    /// No such turn.
    TurnNotFound = "turn_not_found", 404, "No such turn";
    /// No such approval.
    ApprovalNotFound = "approval_not_found", 404, "No such approval";
    /// No such command.
    ExecNotFound = "exec_not_found", 404, "No such command";
    /// No such terminal.
    TerminalNotFound = "terminal_not_found", 404, "No such terminal";
    /// No such key.
    KeyNotFound = "key_not_found", 404, "No such key";
    /// No such SSH key.
    SshKeyNotFound = "ssh_key_not_found", 404, "No such SSH key";
    /// No such file in the session.
    FileNotFound = "file_not_found", 404, "No such file";
    /// No such template.
    TemplateNotFound = "template_not_found", 404, "No such template";
    /// No such checkpoint of this session.
    CheckpointNotFound = "checkpoint_not_found", 404, "No such checkpoint";
    /// A limit of the server's on how many there may be.
    QuotaExceeded = "quota_exceeded", 422, "Beyond the quota";
    /// The session used up what it was allowed; raise it to go on.
    AllowanceExhausted = "allowance_exhausted", 409, "The session's allowance is used up";
    /// An archive that is damaged, cut off, or none at all.
    ArchiveInvalid = "archive_invalid", 422, "The archive cannot be used";
    /// An archive, backup or snapshot store of a newer version.
    ArchiveTooNew = "archive_too_new", 422, "Made by a newer version";
    /// The key does not open the archive, backup or snapshot store.
    WrongKey = "wrong_key", 422, "The key does not fit";
    /// There is no backup there.
    BackupNotFound = "backup_not_found", 404, "No such backup";
    /// The snapshot store cannot be reached or read.
    SnapshotsUnavailable = "snapshots_unavailable", 503, "The snapshot store is not available";
    /// The repository cannot be reached, or there is none.
    RepositoryUnavailable = "repository_unavailable", 422, "The repository cannot be used";
    /// The repository has no such branch, tag or commit.
    RevisionNotFound = "revision_not_found", 422, "No such branch, tag or commit";
    /// The method is not for this endpoint.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    /// Another session has this name.
    NameTaken = "name_taken", 409, "The name is taken";
    /// It is in the wrong state for that.
    Conflict = "conflict", 409, "Not possible in the present state";
    /// The same idempotency key came with another request.
    IdempotencyMismatch = "idempotency_mismatch", 422, "Idempotency key used for another request";
    /// The body is too large.
    TooLarge = "too_large", 413, "The body is too large";
    /// Nothing listens on that port in the session.
    PortClosed = "port_closed", 409, "Nothing listens there";
    /// The range lies beyond the end of the file.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range is not in the file";
    /// The file is not the one that `if-match` or `if-none-match` speaks of.
    PreconditionFailed = "precondition_failed", 412, "The file changed meanwhile";
    /// The body is of a type the endpoint does not take.
    UnsupportedMediaType = "unsupported_media_type", 415, "Unsupported media type";
    /// No agent program is installed.
    AgentNotInstalled = "agent_not_installed", 503, "The agent is not installed";
    /// No model API is configured.
    LlmNotConfigured = "llm_not_configured", 503, "No model API is configured";
    /// The host cannot run sandboxes.
    HostUnsupported = "host_unsupported", 503, "This host cannot run sandboxes";
    /// The sandbox is not up and could not be brought up in time.
    SandboxUnavailable = "sandbox_unavailable", 503, "The sandbox is not available";
    /// The disk is full.
    DiskFull = "disk_full", 507, "No space left";
    /// The server is going down.
    ShuttingDown = "shutting_down", 503, "The server is shutting down";
    /// Our fault.
    Internal = "internal", 500, "Internal error";
}

// By hand: the derive does not see names that a macro passes on, and would publish the variants'.
#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for ErrorCode {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("What went wrong, as a stable word. Codes are only ever added."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for ErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as the API sends it, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:rclaude:error:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in a few words; the same for every problem of one code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: ErrorCode,
    /// What was wrong here, and what to do about it.
    pub detail: String,
    /// The request's id, to find it in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:rclaude:error:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            request_id: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelt_the_same_in_json_and_in_text() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_value(code).unwrap();
            assert_eq!(json, code.as_str());
        }
    }
}
