//! What can go wrong, in terms of what a caller does about it.

use rclaude_types::{Generation, Phase};

use crate::approval::ApprovalRow;

/// Result of a call to the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is nothing of that name.
    #[error("there is no {what} {reference:?}")]
    NotFound {
        /// What was looked for, as a noun.
        what: &'static str,
        /// The id or name it was looked for by.
        reference: String,
    },
    /// A prefix fits more than one.
    #[error("{reference:?} could be any of {}", candidates.join(", "))]
    Ambiguous {
        /// The prefix.
        reference: String,
        /// Some of the ids it fits.
        candidates: Vec<String>,
    },
    /// Another session that exists has this name.
    #[error("there already is a session called {name:?}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The row was written since it was read. Read it again and decide anew.
    #[error("changed by somebody else meanwhile (wanted {wanted}, found {found})")]
    Stale {
        /// What the writer had read: a generation, or the process a link belonged to.
        wanted: String,
        /// What is there now.
        found: String,
    },
    /// The transition table forbids the step.
    #[error("a sandbox cannot go from {from:?} to {to:?}")]
    Impossible {
        /// Where it is.
        from: Phase,
        /// Where it was to go.
        to: Phase,
    },
    /// What is there does not allow it; the text says what.
    #[error("{0}")]
    Conflict(String),
    /// The question was answered before; this is how.
    #[error("it was answered already")]
    AlreadyResolved(Box<ApprovalRow>),
    /// The disk is full. Nothing of the write was kept; reads go on, and so will writes once
    /// there is room.
    #[error("the disk that holds the database is full")]
    DiskFull,
    /// The database was written by a newer program.
    #[error(
        "the database has schema version {found}, this program knows up to {known}: \
         use the newer program, or restore a backup made before the upgrade"
    )]
    NewerVersion {
        /// The database's version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The database cannot be reached now; the text says why.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The file is damaged, or not a database of ours.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// A bug.
    #[error("unexpected database error: {0}")]
    Internal(String),
}

impl StoreError {
    /// Nothing under that id.
    pub fn not_found(what: &'static str, reference: &impl ToString) -> Self {
        Self::NotFound { what, reference: reference.to_string() }
    }

    /// A write that names a generation which has passed.
    pub(crate) fn stale(wanted: Generation, found: Generation) -> Self {
        Self::Stale { wanted: wanted.0.to_string(), found: found.0.to_string() }
    }

    /// Whether the database as a whole is in trouble: the transaction is lost, not the one
    /// statement alone.
    pub(crate) fn is_fatal_to_transaction(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Unavailable(_) | Self::Corrupt(_))
    }
}
