//! The HTTP interface.
//!
//! Every request passes the [front](front): it gets an id, must come from where it may come from,
//! and leaves with either an answer or a problem. What is not public then passes
//! [authentication](access). A handler unpacks, calls one function of the application and
//! converts; there is a file of them per resource. The contract in `openapi/rclaude.json` is
//! generated from the handlers' own annotations and completed by rule in [`openapi`].

mod access;
mod approvals;
mod archives;
mod backups;
mod checkpoints;
mod diff;
mod e2b;
mod events;
mod execs;
mod extract;
mod files;
mod front;
mod guard;
mod health;
mod keys;
pub mod openapi;
mod original;
mod page;
mod ports;
mod problem;
mod serve;
mod sessions;
mod ssh_keys;
mod state;
mod status;
mod storage;
mod stream;
mod terminals;
mod turns;
mod usage;
mod validate;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use utoipa_axum::router::OpenApiRouter;

pub use e2b::Door;
pub use guard::Hosts;
pub use serve::serve;
pub use state::{ApiState, ServerInfo};

type Api = Arc<ApiState>;

/// The whole interface, ready to be [served](serve).
pub fn router(state: ApiState) -> Router {
    let api = Arc::new(state);
    let authenticate = middleware::from_fn_with_state(Arc::clone(&api), access::authenticate);
    let mut public = public();
    if api.open_metrics {
        public = public.merge(health::metrics_routes());
    }
    let mut private = private();
    if !api.open_metrics {
        private = private.merge(health::metrics_routes());
    }
    let (router, _) = public.merge(private.route_layer(authenticate)).split_for_parts();
    router
        .merge(e2b::control(&api))
        .fallback(front::no_such_route)
        .layer(middleware::from_fn_with_state(e2b::planes(&api), e2b::dispatch))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), front::front))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), preview))
        .with_state(api)
}

/// What goes by the name of a preview is no request to the API, and never gets near it.
async fn preview(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.previews.target(&request) {
        Some(target) => api.previews.answer(&api.auth, &target, api.clock.now(), request).await,
        None => next.run(request).await,
    }
}

/// What answers without credentials.
fn public() -> OpenApiRouter<Api> {
    health::routes()
}

/// What asks for credentials.
fn private() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .merge(sessions::routes())
        .merge(turns::routes())
        .merge(approvals::routes())
        .merge(checkpoints::routes())
        .merge(events::routes())
        .merge(execs::routes())
        .merge(terminals::routes())
        .merge(ports::routes())
        .merge(files::routes())
        .merge(diff::routes())
        .merge(usage::routes())
        .merge(keys::routes())
        .merge(ssh_keys::routes())
        .merge(status::routes())
        .merge(archives::routes())
        .merge(backups::routes())
        .merge(storage::routes())
        .merge(original::routes())
}
