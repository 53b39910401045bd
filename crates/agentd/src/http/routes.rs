//! Which request goes where.

use std::rc::Rc;

use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use rclaude_types::ErrorCode;

use super::{
    Body, archives,
    body::{done, json, refused},
    input::{Query, is_authentic},
    ports, processes, reading, storage, terminals, watching,
};
use crate::{
    daemon::Daemon,
    metrics,
    refusal::{Refusal, Result},
};

/// Answers a request, whatever it is.
pub(super) async fn answer(daemon: Rc<Daemon>, request: Request<Incoming>) -> Response<Body> {
    if !is_authentic(&request, &daemon.token) {
        let detail = "send the sandbox's token as a bearer";
        return refused(&Refusal::new(ErrorCode::Unauthenticated, detail));
    }
    route(daemon, request).await.unwrap_or_else(|refusal| refused(&refusal))
}

async fn route(daemon: Rc<Daemon>, request: Request<Incoming>) -> Result<Response<Body>> {
    let query = Query::of(&request)?;
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path().strip_prefix("/v1/") else { return Err(nowhere()) };
    let segments: Vec<&str> = path.split('/').collect();
    match (&head.method, segments.as_slice()) {
        (&Method::GET, ["health"]) => json(StatusCode::OK, &daemon.health()),
        (&Method::GET, ["metrics"]) => json(StatusCode::OK, &metrics::read()),
        (&Method::POST, ["shutdown"]) => {
            daemon.shut_down();
            Ok(done())
        }
        (&Method::GET, ["processes"]) => processes::list(&daemon),
        (&Method::PUT, ["processes", id]) => processes::start(&daemon, id, &query, body).await,
        (&Method::GET, ["processes", id]) => processes::get(&daemon, id),
        (&Method::DELETE, ["processes", id]) => processes::forget(&daemon, id),
        (&Method::GET, ["processes", id, "output"]) => processes::output(&daemon, id, &query),
        (&Method::POST, ["processes", id, "stdin"]) => {
            processes::stdin(&daemon, id, &query, body).await
        }
        (&Method::POST, ["processes", id, "signal"]) => processes::signal(&daemon, id, body).await,
        (&Method::GET, ["terminals"]) => terminals::list(&daemon),
        (&Method::PUT, ["terminals", id]) => terminals::open(&daemon, id, body).await,
        (&Method::GET, ["terminals", id]) => terminals::get(&daemon, id),
        (&Method::DELETE, ["terminals", id]) => terminals::end(&daemon, id).await,
        (&Method::POST, ["terminals", id, "resize"]) => terminals::resize(&daemon, id, body).await,
        (&Method::GET, ["terminals", id, "attach"]) => terminals::attach(&daemon, id, &query).await,
        (&Method::POST, ["terminals", id, "input"]) => {
            terminals::type_in(&daemon, id, &query, body).await
        }
        (&Method::GET, ["ports"]) => ports::list(&daemon).await,
        (&Method::POST, ["ports", port, "connect"]) => ports::connect(port, body).await,
        (&Method::GET, ["files"]) => reading::read(&daemon, &query, &head.headers).await,
        (&Method::PUT, ["files"]) => storage::write(&daemon, &query, body).await,
        (&Method::PATCH, ["files"]) => storage::change(&daemon, &query, body).await,
        (&Method::DELETE, ["files"]) => storage::remove(&daemon, &query).await,
        (&Method::POST, ["files", "append"]) => storage::append(&daemon, &query, body).await,
        (&Method::GET, ["files", "stat"]) => storage::stat(&daemon, &query).await,
        (&Method::GET, ["files", "list"]) => storage::list(&daemon, &query).await,
        (&Method::GET, ["files", "search"]) => storage::search(&daemon, &query).await,
        (&Method::GET, ["files", "watch"]) => watching::watch(&daemon, &query).await,
        (&Method::POST, ["files", "move"]) => storage::rename(&daemon, &query).await,
        (&Method::POST, ["files", "copy"]) => storage::copy(&daemon, &query).await,
        (&Method::PUT, ["links"]) => storage::link(&daemon, &query).await,
        (&Method::PUT, ["directories"]) => storage::make_directory(&daemon, &query).await,
        (&Method::GET, ["tar"]) => archives::pack(&daemon, &query).await,
        (&Method::PUT, ["tar"]) => archives::unpack(&daemon, &query, body).await,
        _ => Err(nowhere()),
    }
}

fn nowhere() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "no such endpoint")
}
