//! Whether a sandbox is up, what it uses, and its environment.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::guest::{Guest, session};
use crate::api::{
    Api, ApiState,
    e2b::{connect, id, target},
};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/envs", get(envs))
}

/// The sandbox asked for, without credentials.
struct Named(rclaude_types::SessionId);

impl FromRequestParts<Arc<ApiState>> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Response> {
        session(parts).map(Self)
    }
}

/// `204` while it is up.
async fn health(State(api): State<Api>, Named(session): Named) -> Response {
    match api.sessions.lent(&session).await {
        Ok(lent) if lent.is_running() => StatusCode::NO_CONTENT.into_response(),
        _ => target::not_found(&id::sandbox(&session)),
    }
}

async fn metrics(guest: Guest) -> Result<Json<Value>, connect::Error> {
    let used = guest.open().await?.client.metrics().await?;
    let resources = guest.lent.settings().resources;
    Ok(Json(json!({
        "ts": guest.api.clock.now().as_micros() / 1_000_000,
        "cpu_count": resources.cpu_millis.div_ceil(1000),
        "mem_total": used.memory_total_bytes,
        "mem_used": used.memory_used_bytes,
        "disk_total": used.disk_total_bytes,
        "disk_used": used.disk_total_bytes.saturating_sub(used.disk_free_bytes),
    })))
}

async fn envs(guest: Guest) -> Json<Value> {
    Json(json!(guest.lent.environment()))
}
