//! For supervisors, load balancers and scrapers: alive, ready, metrics, and the contract.

use axum::{extract::State, http::header, response::IntoResponse};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, openapi, problem::Result};

/// Media type of the Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready)).routes(routes!(contract))
}

pub(super) fn metrics_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Tells that the process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "get_health",
    tag = "server",
    security(()),
    responses((status = 200, description = "It lives.", body = String, content_type = "text/plain"))
)]
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// Tells whether requests can be served: the store answers and the engine is up.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "get_readiness",
    tag = "server",
    security(()),
    responses((status = 200, description = "They can.", body = String, content_type = "text/plain"))
)]
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str> {
    api.info.ready().await?;
    Ok("ready\n")
}

/// Metrics, in the Prometheus text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "server",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain"))
)]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, PROMETHEUS)], api.metrics.render())
}

/// This contract.
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "get_openapi",
    tag = "server",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object, content_type = "application/json"))
)]
pub(super) async fn contract() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], openapi::json())
}
