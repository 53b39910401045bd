//! What sandboxes use now. What they used before is not kept, so a list of measurements has one.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json as Answer,
    extract::{Query, State},
};
use rclaude_sandbox::agentd;
use rclaude_types::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Sandbox;
use crate::{
    api::{
        Api,
        e2b::id,
        problem::{Refusal, Result},
    },
    session::manager::leases::Lent,
};

/// Between two looks at the processor's clock.
const SPAN: Duration = Duration::from_millis(100);
const MAX_SANDBOXES: usize = 100;

/// One measurement; sizes in bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    timestamp: Timestamp,
    timestamp_unix: i64,
    cpu_count: u32,
    cpu_used_pct: f64,
    mem_used: u64,
    mem_total: u64,
    mem_cache: u64,
    disk_used: u64,
    disk_total: u64,
}

/// A sandbox's: none while it is set aside. A span of time that is over has none either.
pub(super) async fn one(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    Query(span): Query<Span>,
) -> Result<Answer<Value>> {
    let lent = api.sessions.lent(&session).await?;
    let now = api.clock.now().as_micros() / 1_000_000;
    if span.end.is_some_and(|end| end < now) || !lent.is_running() {
        return Ok(Answer(json!([])));
    }
    Ok(Answer(json!([measure(&api, &session, &lent).await?])))
}

/// Of which time, in seconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct Span {
    #[serde(rename = "start")]
    _start: Option<i64>,
    end: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Separated by commas.
    sandbox_ids: String,
}

/// Those of several; who is set aside, or not there, is left out.
pub(super) async fn many(
    State(api): State<Api>,
    Query(Wanted { sandbox_ids }): Query<Wanted>,
) -> Result<Answer<Value>> {
    let names: Vec<_> = sandbox_ids.split(',').filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_SANDBOXES {
        return Err(Refusal::invalid(format!("sandbox_ids: at most {MAX_SANDBOXES}")));
    }
    let looks = names.into_iter().filter_map(id::session).map(|session| {
        let api = &api;
        async move {
            let lent = api.sessions.lent(&session).await.ok().filter(Lent::is_running)?;
            let measured = measure(api, &session, &lent).await.ok()?;
            Some((id::sandbox(&session), measured))
        }
    });
    let measured: BTreeMap<_, _> =
        futures::future::join_all(looks).await.into_iter().flatten().collect();
    Ok(Answer(json!({ "sandboxes": measured })))
}

async fn measure(api: &Api, session: &SessionId, lent: &Lent) -> Result<Measured> {
    let client = api.sessions.open(session).await?.client;
    let lost = |error: agentd::Error| {
        Refusal::new(rclaude_types::ErrorCode::SandboxUnavailable, error.to_string())
    };
    let (before, began) = (client.metrics().await.map_err(lost)?, tokio::time::Instant::now());
    tokio::time::sleep(SPAN).await;
    let used = client.metrics().await.map_err(lost)?;
    let cpu = Duration::from_micros(used.cpu_micros.saturating_sub(before.cpu_micros));
    let cpu_count = lent.settings().resources.cpu_millis.div_ceil(1000);
    let share = cpu.as_secs_f64() / began.elapsed().as_secs_f64() / f64::from(cpu_count) * 100.0;
    let now = api.clock.now();
    Ok(Measured {
        timestamp: now,
        timestamp_unix: now.as_micros() / 1_000_000,
        cpu_count,
        cpu_used_pct: (share.clamp(0.0, 100.0) * 100.0).round() / 100.0,
        mem_used: used.memory_used_bytes,
        mem_total: used.memory_total_bytes,
        mem_cache: 0,
        disk_used: used.disk_total_bytes.saturating_sub(used.disk_free_bytes),
        disk_total: used.disk_total_bytes,
    })
}
