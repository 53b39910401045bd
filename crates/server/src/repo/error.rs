//! Why a repository could not be made ready, in words for whoever asked.

use std::{io, path::Path};

use rclaude_types::{ErrorCode, Problem};

/// A repository that could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    /// There is no such repository, or it cannot be read.
    #[error("{0}")]
    Unavailable(String),
    /// The repository has no such branch, tag or commit.
    #[error("{0}")]
    RevisionNotFound(String),
    /// The disk is full.
    #[error("no space left on the server's disk while {0}")]
    DiskFull(String),
    /// Something broke on our side.
    #[error("{doing}: {source}")]
    Internal {
        /// What was being done.
        doing: String,
        /// What happened.
        #[source]
        source: io::Error,
    },
}

impl RepoError {
    /// The stable code callers see.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::Unavailable(_) => ErrorCode::RepositoryUnavailable,
            Self::RevisionNotFound(_) => ErrorCode::RevisionNotFound,
            Self::DiskFull(_) => ErrorCode::DiskFull,
            Self::Internal { .. } => ErrorCode::Internal,
        }
    }

    /// An error of the file system, with what was being done.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(doing),
            _ => Self::Internal { doing, source },
        }
    }

    /// The same, naming a path.
    pub(super) fn at(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{doing} {}", path.display()))
    }
}

impl From<RepoError> for Problem {
    fn from(error: RepoError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
