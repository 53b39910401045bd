//! The daemon itself, and requests about files that are more than a path.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The protocol it speaks; see [`PROTOCOL`](super::PROTOCOL).
    pub protocol: u32,
    /// Its version.
    pub version: String,
    /// Whether it starts processes as the sandbox's root.
    pub allow_root: bool,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Processes under way that it started.
    pub running: u32,
    /// Some process's output waits because the disk is full.
    pub journal_full: bool,
    /// Seconds since a terminal that runs last printed something; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_seconds_ago: Option<u64>,
}

/// Answer of `GET /v1/metrics`: what the sandbox uses, as seen from inside. Zero where the kernel
/// does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Processor time used so far, in microseconds.
    pub cpu_micros: u64,
    /// Memory in use, in bytes.
    pub memory_used_bytes: u64,
    /// Memory there is, in bytes.
    pub memory_total_bytes: u64,
    /// Free bytes of the writable disk.
    pub disk_free_bytes: u64,
    /// Size of the writable disk, in bytes.
    pub disk_total_bytes: u64,
    /// Processes in the sandbox.
    pub processes: u32,
}
