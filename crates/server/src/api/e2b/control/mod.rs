//! The control plane: making, finding, setting aside and ending sandboxes.

mod create;
mod fork;
mod life;
mod list;
mod logs;
mod metrics;
mod network;
mod refused;
mod sandboxes;
mod shape;
mod snapshots;
mod templates;

use axum::{
    Router,
    extract::{FromRequestParts, Query, RawPathParams},
    http::request::Parts,
    middleware,
    routing::{any, delete, get, post, put},
};
use rclaude_types::{ErrorCode, SessionId};
use serde::de::DeserializeOwned;

use super::{access, id, words};
use crate::api::{
    Api,
    problem::{Refusal, Result},
};

/// The routes. Those of old SDKs (without `/v2`) stay beside the newer ones.
pub(super) fn routes(api: &Api) -> Router<Api> {
    Router::new()
        .route("/v2/sandboxes", post(create::create).get(list::list))
        .route("/sandboxes", post(create::create_v1).get(list::running))
        .route("/v2/sandboxes/{sandbox}/connect", post(life::connect))
        .route("/sandboxes/{sandbox}/connect", post(life::connect))
        .route("/sandboxes/{sandbox}/resume", post(life::resume))
        .route("/sandboxes/{sandbox}", get(sandboxes::get).delete(sandboxes::kill))
        .route("/sandboxes/{sandbox}/pause", post(life::pause))
        .route("/sandboxes/{sandbox}/timeout", post(life::timeout))
        .route("/sandboxes/{sandbox}/refreshes", post(life::refresh))
        .route("/sandboxes/{sandbox}/snapshots", post(snapshots::create))
        .route("/snapshots", get(snapshots::list))
        .route("/sandboxes/{sandbox}/fork", post(fork::fork))
        .route("/sandboxes/{sandbox}/network", put(network::update))
        .route("/sandboxes/{sandbox}/metrics", get(metrics::one))
        .route("/sandboxes/metrics", get(metrics::many))
        .route("/sandboxes/{sandbox}/logs", get(logs::first))
        .route("/v2/sandboxes/{sandbox}/logs", get(logs::second))
        .route("/templates", get(templates::list))
        .route("/templates/aliases/{alias}", get(templates::alias))
        .route("/templates/{template}", delete(snapshots::remove))
        .route("/v2/templates", any(refused::templates))
        .route("/v3/templates", any(refused::templates))
        .route("/v2/templates/{*rest}", any(refused::templates))
        .route("/templates/{template}/{*rest}", any(refused::templates))
        .route("/volumes", any(refused::volumes))
        .route("/volumes/{*rest}", any(refused::volumes))
        .route("/secrets", any(refused::secrets))
        .route("/secrets/{*rest}", any(refused::secrets))
        .route_layer(middleware::from_fn_with_state(api.clone(), access::authenticate))
        .route_layer(middleware::from_fn(words::translate))
}

/// The sandbox that a path names.
pub(super) struct Sandbox(SessionId);

impl<S: Send + Sync> FromRequestParts<S> for Sandbox {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let params = RawPathParams::from_request_parts(parts, &())
            .await
            .map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
        let name = params.iter().find_map(|(key, value)| (key == "sandbox").then_some(value));
        let name = name.unwrap_or("");
        id::session(name).map(Self).ok_or_else(|| missing(name))
    }
}

/// A query string, refused in words.
pub(super) struct Asked<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|Query(asked)| Self(asked)).map_err(|error| Refusal::invalid(error.body_text()))
    }
}

/// There is no such sandbox.
fn missing(name: &str) -> Refusal {
    Refusal::new(ErrorCode::SessionNotFound, format!("sandbox \"{name}\" doesn't exist"))
}
