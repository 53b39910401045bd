//! What E2B's daemon answers inside a sandbox, answered here: processes and terminals, files,
//! watches. Each call becomes one or two of our own daemon's.

mod desk;
mod files;
mod filesystem;
mod guest;
mod health;
mod process;
mod reading;
mod upload;
mod watch;

use axum::{Router, middleware};

pub(in crate::api::e2b) use desk::Desks;
pub(in crate::api::e2b) use files::FileQuery;

use crate::api::Api;

/// The routes of one sandbox's door.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .merge(health::routes())
        .merge(files::routes())
        .merge(process::routes())
        .merge(filesystem::routes())
        .merge(watch::routes())
        .layer(middleware::from_fn(reading::first))
}
