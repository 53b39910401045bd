//! What sessions take up on disk, and what can be dropped.

use serde::{Deserialize, Serialize};

use crate::SessionId;

/// What a server's sessions take up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiskUse {
    /// By session, largest first.
    pub sessions: Vec<SessionDiskUse>,
    /// Sealed layers on the local disk, shared ones counted once, in bytes.
    pub layers: u64,
    /// Cached repositories, in bytes.
    pub repositories: u64,
    /// The snapshot store, in bytes.
    pub snapshots: u64,
    /// The database, in bytes.
    pub database: u64,
    /// Free on the local disk, in bytes.
    pub free: u64,
}

/// What one session takes up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionDiskUse {
    /// Which.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// Its writable disk, in bytes.
    pub disk: u64,
    /// Layers of its checkpoints that no other session shares, in bytes.
    pub checkpoints: u64,
    /// How many checkpoints it has.
    pub checkpoint_count: u32,
}

/// Body of `POST /v1/prune`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prune {
    /// Automatic checkpoints older than so many seconds go; 30 days if absent. The newest of each
    /// session stays, and so does what somebody asked for by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 3_153_600_000_u64))]
    pub older_than_seconds: Option<u64>,
    /// Say what would go, and drop nothing.
    pub dry_run: bool,
}

/// What was dropped, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Pruned {
    /// Checkpoints.
    pub checkpoints: u64,
    /// Layers.
    pub layers: u64,
    /// Bytes on the local disk.
    pub bytes: u64,
    /// Bytes in the snapshot store.
    pub snapshot_bytes: u64,
    /// Nothing was dropped: this is what would be.
    pub dry_run: bool,
}
