//! Backups: the database and every session's files, in one place that another machine can start
//! from.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Body of `POST /v1/backups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateBackup {
    /// A directory on the server's host, or `s3://bucket/prefix`. The server's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub to: Option<String>,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Backup {
    /// Its name at that place; names sort by time.
    pub name: String,
    /// Where it is.
    pub location: String,
    /// When what it holds was true.
    pub at: Timestamp,
    /// Sessions in it.
    pub sessions: u64,
    /// Layers it refers to.
    pub layers: u64,
    /// Bytes this backup added there.
    pub added_bytes: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// What restoring a backup into a scratch place showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackupVerdict {
    /// Which.
    pub backup: Backup,
    /// Everything came back as it was saved.
    pub sound: bool,
    /// What did not, in words.
    pub damage: Vec<String>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// Body of `POST /v1/backups/verify`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerifyBackup {
    /// Which; the newest if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub name: Option<String>,
    /// Where it is: a directory on the server's host, or `s3://bucket/prefix`. Where the server's
    /// backups go if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub at: Option<String>,
}
