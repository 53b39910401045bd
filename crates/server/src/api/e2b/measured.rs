//! What a sandbox uses now. Processor and memory are as the host sees them: from inside, a sandbox
//! may see the whole host's.

use std::time::Duration;

use rclaude_types::{ErrorCode, Problem, SessionId, Timestamp};
use serde::Serialize;

use crate::{api::Api, session::manager::leases::Lent};

/// Between two looks at the processor's clock.
const SPAN: Duration = Duration::from_millis(100);
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// One measurement; sizes in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Measured {
    pub(super) timestamp: Timestamp,
    pub(super) timestamp_unix: i64,
    pub(super) cpu_count: u32,
    /// Of all its processors together.
    pub(super) cpu_used_pct: f64,
    pub(super) mem_used: u64,
    pub(super) mem_total: u64,
    /// It is within `mem_used`.
    pub(super) mem_cache: u64,
    pub(super) disk_used: u64,
    pub(super) disk_total: u64,
}

/// Looks twice, a tenth of a second apart.
pub(super) async fn measure(
    api: &Api,
    session: &SessionId,
    lent: &Lent,
) -> Result<Measured, Problem> {
    let client = api.sessions.open(session).await?.client;
    let (before, began) = (api.sessions.used(session).await?, tokio::time::Instant::now());
    tokio::time::sleep(SPAN).await;
    let (used, inside) = tokio::join!(api.sessions.used(session), client.metrics());
    let inside =
        inside.map_err(|error| Problem::new(ErrorCode::SandboxUnavailable, error.to_string()))?;
    let (used, took) = (used?, began.elapsed());
    let cpu = Duration::from_micros(used.cpu_micros.saturating_sub(before.cpu_micros));
    let resources = lent.settings().resources;
    let cpu_count = resources.cpu_millis.div_ceil(1000);
    let share = cpu.as_secs_f64() / took.as_secs_f64() / f64::from(cpu_count) * 100.0;
    let now = api.clock.now();
    Ok(Measured {
        timestamp: now,
        timestamp_unix: now.as_micros() / 1_000_000,
        cpu_count,
        cpu_used_pct: (share.clamp(0.0, 100.0) * 100.0).round() / 100.0,
        mem_used: used.memory_bytes,
        mem_total: u64::from(resources.memory_mib) * MIB,
        mem_cache: 0,
        disk_used: inside.disk_total_bytes.saturating_sub(inside.disk_free_bytes),
        disk_total: inside.disk_total_bytes,
    })
}
