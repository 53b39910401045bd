//! What E2B has and this server has not: said so, whatever the method.

use axum::response::Response;

use crate::api::e2b::words::unsupported;

pub(super) async fn templates() -> Response {
    unsupported("building a template")
}

pub(super) async fn volumes() -> Response {
    unsupported("a volume")
}

pub(super) async fn secrets() -> Response {
    unsupported("a secret kept by the server")
}
