//! `process.Process`: commands and terminals in the sandbox, by their process numbers.
//!
//! A command is a process of our daemon's, a terminal one of its terminals. What they print is in
//! the daemon's journal, so nothing is lost while nobody follows: who connects to a process goes
//! on where the last follower stopped.

pub(super) mod config;
mod end;
pub(super) mod follow;
mod input;
mod list;
mod signal;
mod start;

use axum::{Router, routing::post};

use crate::api::Api;

/// The service's routes.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/process.Process/Start", post(start::start))
        .route("/process.Process/Connect", post(start::connect))
        .route("/process.Process/List", post(list::list))
        .route("/process.Process/Update", post(signal::update))
        .route("/process.Process/SendSignal", post(signal::send))
        .route("/process.Process/SendInput", post(input::send))
        .route("/process.Process/StreamInput", post(input::stream))
        .route("/process.Process/CloseStdin", post(input::close))
}
