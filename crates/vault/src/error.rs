//! What can go wrong, in terms of what a caller does about it.

use std::{io, path::PathBuf};

use crate::SnapshotId;

/// Result of a call to the vault.
pub type Result<T, E = VaultError> = std::result::Result<T, E>;

/// Why the vault refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no vault there.
    #[error("there is no vault at {location}")]
    NotAVault {
        /// Where one was looked for.
        location: String,
    },
    /// The key or passphrase is not the one the vault was made with.
    #[error("the key does not open the vault at {location}")]
    WrongKey {
        /// Where the vault is.
        location: String,
    },
    /// A newer program made it.
    #[error("{what} has format {found}, this program reads up to {known}: use the newer program")]
    NewerFormat {
        /// The vault or file in question.
        what: String,
        /// Its format.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// Something stored is missing or not what was stored. `verify` says all that is damaged.
    #[error("the vault is damaged: {what}")]
    Damaged {
        /// What is missing or wrong.
        what: String,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {id}")]
    NoSuchSnapshot {
        /// The id asked for.
        id: SnapshotId,
    },
    /// Where the vault is kept cannot be read or written now.
    #[error("cannot {doing} {path} in the vault at {location}: {source}")]
    Storage {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file inside the vault.
        path: String,
        /// Where the vault is.
        location: String,
        /// What the disk or network said.
        source: io::Error,
    },
    /// A file of a tree that is saved or restored cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Tree {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file, below the tree's root or as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file was written while it was saved, so that nothing sound could be kept of it.
    #[error("{} changed while it was being saved: hold its writers still, then save again", path.display())]
    Changed {
        /// The file, below the tree's root.
        path: PathBuf,
    },
    /// Somebody else prunes this vault.
    #[error("the vault at {location} is being pruned by somebody else")]
    Busy {
        /// Where the vault is.
        location: String,
    },
    /// What was asked for makes no sense; the text says why.
    #[error("{0}")]
    Invalid(String),
    /// An archive that is not whole: the file ends too soon.
    #[error("the archive is truncated at byte {at}")]
    Truncated {
        /// How many bytes there are.
        at: u64,
    },
    /// Not an archive, or one that was tampered with; the text says which.
    #[error("{0}")]
    BadArchive(String),
    /// A bug.
    #[error("unexpected error of the vault: {0}")]
    Internal(String),
}

impl VaultError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(crate) fn tree(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Tree { doing, path, source }
    }

    /// Whether a file of the vault that had been listed was gone when it was read.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Storage { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
