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
    e2b::{connect, id, measured::measure, target},
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
    let used = measure(&guest.api, &guest.session, &guest.lent).await?;
    Ok(Json(json!({
        "ts": used.timestamp_unix,
        "cpu_count": used.cpu_count,
        "cpu_used_pct": used.cpu_used_pct,
        "mem_total": used.mem_total,
        "mem_used": used.mem_used,
        "disk_total": used.disk_total,
        "disk_used": used.disk_used,
    })))
}

async fn envs(guest: Guest) -> Json<Value> {
    Json(json!(guest.lent.environment()))
}
