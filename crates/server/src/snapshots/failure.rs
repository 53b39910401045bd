//! The vault's errors in words for a caller.

use std::io;

use rclaude_sandbox::provider::ProviderError;
use rclaude_store::StoreError;
use rclaude_types::{ErrorCode, Problem};
use rclaude_vault::VaultError;

use crate::chain::chain;

/// Why something could not be brought to a store or back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The provider's layers.
    #[error("{}", chain(.0))]
    Provider(#[from] ProviderError),
    /// The database.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The local disk.
    #[error("{doing}: {source}")]
    Disk {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// What a caller asked for.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    pub(super) fn disk(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Disk { doing, source }
    }

    pub(super) fn refused(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Refused(Box::new(Problem::new(code, detail)))
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let code = match &failure {
            Failure::Refused(_) => {
                let Failure::Refused(problem) = failure else { unreachable!("just looked") };
                return *problem;
            }
            Failure::Vault(error) => code_of(error),
            Failure::Store(StoreError::NotFound { what: "session", .. }) => {
                ErrorCode::SessionNotFound
            }
            Failure::Store(StoreError::NameTaken { .. }) => ErrorCode::NameTaken,
            Failure::Store(StoreError::DiskFull) => ErrorCode::DiskFull,
            Failure::Disk { source, .. } if is_full(source) => ErrorCode::DiskFull,
            Failure::Provider(error) if is_full_chain(error) => ErrorCode::DiskFull,
            Failure::Provider(_) | Failure::Store(_) | Failure::Disk { .. } | Failure::Other(_) => {
                ErrorCode::Internal
            }
        };
        Self::new(code, failure.to_string())
    }
}

fn code_of(error: &VaultError) -> ErrorCode {
    match error {
        VaultError::NotAVault { .. } => ErrorCode::BackupNotFound,
        VaultError::WrongKey { .. } => ErrorCode::WrongKey,
        VaultError::NewerFormat { .. } => ErrorCode::ArchiveTooNew,
        VaultError::Invalid(_) => ErrorCode::InvalidRequest,
        VaultError::Busy { .. } => ErrorCode::Conflict,
        VaultError::Truncated { .. } | VaultError::BadArchive(_) => ErrorCode::ArchiveInvalid,
        VaultError::Tree { source, .. } if is_full(source) => ErrorCode::DiskFull,
        VaultError::Storage { source, .. } if is_full(source) => ErrorCode::DiskFull,
        VaultError::Storage { .. }
        | VaultError::Damaged { .. }
        | VaultError::NoSuchSnapshot { .. } => ErrorCode::SnapshotsUnavailable,
        _ => ErrorCode::Internal,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_full_chain(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        next = error.source();
    }
    false
}
