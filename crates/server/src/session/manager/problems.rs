//! The store's and the daemon's errors in words for a caller.

use std::str::FromStr;

use rclaude_sandbox::agentd;
use rclaude_store::StoreError;
use rclaude_types::{ErrorCode, Problem, SessionId};

/// A store's error as a problem.
pub(super) fn from_store(error: StoreError) -> Problem {
    let code = match &error {
        StoreError::NotFound { what, .. } => match *what {
            "session" => ErrorCode::SessionNotFound,
            "turn" => ErrorCode::TurnNotFound,
            "approval" => ErrorCode::ApprovalNotFound,
            "exec" => ErrorCode::ExecNotFound,
            "key" => ErrorCode::KeyNotFound,
            "checkpoint" => ErrorCode::CheckpointNotFound,
            _ => ErrorCode::NotFound,
        },
        StoreError::Ambiguous { .. } => ErrorCode::SessionAmbiguous,
        StoreError::NameTaken { .. } => ErrorCode::NameTaken,
        StoreError::Stale { .. }
        | StoreError::Impossible { .. }
        | StoreError::Conflict(_)
        | StoreError::AlreadyResolved(_) => ErrorCode::Conflict,
        StoreError::DiskFull => ErrorCode::DiskFull,
        _ => {
            tracing::error!(%error, "the store failed");
            return Problem::new(
                ErrorCode::Internal,
                "the server's database failed; its log says how",
            );
        }
    };
    let hint = match code {
        ErrorCode::SessionNotFound => "; `rclaude ls` shows those there are",
        _ => "",
    };
    Problem::new(code, format!("{error}{hint}"))
}

/// A daemon's error as a problem: its refusal as it is, a lost link as a passing state.
pub(super) fn from_daemon(error: agentd::Error) -> Problem {
    match error {
        agentd::Error::Refused(problem) => *problem,
        error => Problem::new(
            ErrorCode::SandboxUnavailable,
            format!("{error}; it is being brought back, so try again in a moment"),
        ),
    }
}

/// What a page's cursor says: where the page before it ended.
pub(super) fn cursor<T: FromStr>(given: Option<&str>) -> Result<Option<T>, Problem> {
    given.map(str::parse).transpose().map_err(|_| {
        Problem::new(
            ErrorCode::InvalidRequest,
            "cursor: give the next_cursor of the page before, or none for the first page",
        )
    })
}

/// There is no such session.
pub(super) fn no_session(id: &SessionId) -> Problem {
    let detail = format!("there is no session {id}; `rclaude ls` shows those there are");
    Problem::new(ErrorCode::SessionNotFound, detail)
}
