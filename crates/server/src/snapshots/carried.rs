//! What an exported session says of itself: the document inside its archive.

use std::path::PathBuf;

use rclaude_store::session::SessionSettings;
use rclaude_types::{CheckpointId, SealMethod, SessionId, Timestamp, TurnId};
use rclaude_vault::SnapshotId;
use serde::{Deserialize, Serialize};

/// The newest format this program reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// The document's name in the archive's vault.
pub(super) const DOCUMENT: &str = "session";

/// A session as it is carried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Carried {
    pub(super) format: u32,
    /// Which program wrote it.
    pub(super) version: String,
    /// What it was where it comes from.
    pub(super) session: SessionId,
    pub(super) name: String,
    pub(super) checkpoint: CheckpointId,
    pub(super) at: Timestamp,
    pub(super) settings: SessionSettings,
    pub(super) conversation: Option<String>,
    pub(super) base_commit: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) base_branch: Option<String>,
    pub(super) default_branch: Option<String>,
    pub(super) turn: Option<TurnId>,
    pub(super) method: SealMethod,
    /// Its files, uppermost first.
    pub(super) stack: Vec<Part>,
    /// Its turns, one JSON object a line.
    pub(super) turns: SnapshotId,
    /// Its log, one JSON object a line.
    pub(super) log: SnapshotId,
}

/// A tree that becomes a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) snapshot: SnapshotId,
    pub(super) digest: String,
    /// Where in the layer it belongs; it is the layer if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inside: Option<PathBuf>,
}
