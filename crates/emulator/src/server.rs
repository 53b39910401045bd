//! The emulator's door: a listener served over HTTP/1.1.

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    attempts::Attempts,
    brain,
    player::{Disconnect, Player},
    reply::{self, Reply},
    request::MessagesRequest,
    script::{self, Block, HttpError, Step},
};

/// Requests kept for [`EmulatorHandle::requests`]; the oldest are dropped.
const RECORDED: usize = 10_000;

/// An emulator to be served.
#[derive(Debug, Clone, Default)]
pub struct Emulator {
    records: bool,
    first_token_latency: Duration,
}

impl Emulator {
    /// One that answers at once and records nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the requests (the last 10,000), for [`EmulatorHandle::requests`].
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.records = true;
        self
    }

    /// Waits this long before every answer to `POST /v1/messages`, as a model would.
    #[must_use]
    pub fn first_token_latency(mut self, latency: Duration) -> Self {
        self.first_token_latency = latency;
        self
    }

    /// Serves `listener` until the handle is dropped. Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the listener does not know its own address.
    pub fn serve(self, listener: TcpListener) -> io::Result<EmulatorHandle> {
        let address = listener.local_addr()?;
        let running = Arc::new(Running {
            settings: self,
            attempts: Attempts::default(),
            recorded: Mutex::default(),
            // Ids of one run must not meet those of another: agents resume conversations.
            run: RandomState::new().hash_one(address) >> 32,
            serial: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, Arc::clone(&running), stop.clone(), tasks.clone()));
        Ok(EmulatorHandle { address, running, stop, tasks })
    }
}

/// A served emulator; dropping it closes its listener and connections.
pub struct EmulatorHandle {
    address: SocketAddr,
    running: Arc<Running>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl EmulatorHandle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL to give to a client, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, oldest first; empty unless it [records](Emulator::recording).
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let recorded = self.running.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.iter().cloned().collect()
    }

    /// Closes the listener and every connection, and waits until that is done.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for EmulatorHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for EmulatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatorHandle").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

struct Running {
    settings: Emulator,
    attempts: Attempts,
    recorded: Mutex<VecDeque<RecordedRequest>>,
    run: u64,
    serial: AtomicU64,
}

async fn accept(
    listener: TcpListener,
    running: Arc<Running>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            // Out of descriptors, most likely: let some connections end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "emulator: no TCP_NODELAY");
        }
        let running = Arc::clone(&running);
        let service = service_fn(move |request| {
            let running = Arc::clone(&running);
            async move { running.answer(request).await }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(false)
            .serve_connection(TokioIo::new(socket), service);
        let stop = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "emulator: connection ended early");
                }
            }
        });
    }
}

impl Running {
    /// Answers a request; an error closes the connection without an answer.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Player>, Disconnect> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_gone| Disconnect)?.to_bytes();
        if self.settings.records {
            self.record(&head, &body);
        }
        let mut response = match (&head.method, head.uri.path()) {
            (&Method::POST, "/v1/messages") => self.messages(&head.headers, &body).await?,
            (&Method::POST, "/v1/messages/count_tokens") => {
                json(StatusCode::OK, &json!({ "input_tokens": reply::tokens_in(body.len()) }))
            }
            (&Method::GET, "/v1/models") => json(StatusCode::OK, &models()),
            (&Method::GET | &Method::HEAD, "/") => {
                json(StatusCode::OK, &json!({ "service": "emulator" }))
            }
            (_, path) => {
                error(StatusCode::NOT_FOUND, "not_found_error", &format!("no such thing: {path}"))
            }
        };
        let request_id = format!("req_emu_{}", self.next_serial());
        if let Ok(request_id) = HeaderValue::try_from(request_id) {
            response.headers_mut().insert("request-id", request_id);
        }
        Ok(response)
    }

    async fn messages(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response<Player>, Disconnect> {
        let key = [headers.get("x-api-key"), headers.get(header::AUTHORIZATION)];
        if key.iter().flatten().any(|key| key.as_bytes().windows(7).any(|w| w == b"invalid")) {
            let status = StatusCode::UNAUTHORIZED;
            return Ok(error(status, "authentication_error", "invalid x-api-key"));
        }
        let request: MessagesRequest<'_> = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(why) => {
                let why = format!("the body is not understood: {why}");
                return Ok(error(StatusCode::BAD_REQUEST, "invalid_request_error", &why));
            }
        };
        let blocks = match script::due(&request) {
            Some(step) => self.take(step, headers),
            None => brain::answer(&request),
        };
        let reply = reply::compose(&request, body.len(), blocks, &self.next_serial());
        let streams = request.stream;
        drop(request);
        if !self.settings.first_token_latency.is_zero() {
            tokio::time::sleep(self.settings.first_token_latency).await;
        }
        match reply {
            Reply::Drop => Err(Disconnect),
            Reply::Error(after, scripted) => {
                wait(Some(after)).await;
                let HttpError { status, kind, message, headers } = *scripted;
                let mut response = error(status, &kind, &message);
                response.headers_mut().extend(headers);
                Ok(response)
            }
            Reply::Message { after, pieces, length } => {
                wait(after).await;
                let mut response = Response::new(Player::new(pieces));
                let kind = if streams { "text/event-stream; charset=utf-8" } else { JSON };
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                headers.extend(length.map(|length| (header::CONTENT_LENGTH, length.into())));
                if streams {
                    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                }
                Ok(response)
            }
        }
    }

    /// The step's blocks that count for this attempt.
    fn take(&self, step: Step, headers: &HeaderMap) -> Vec<Block> {
        let attempt = if step.blocks.iter().any(|block| block.times.is_some()) {
            let mut hasher = std::hash::DefaultHasher::new();
            (step.key, headers.get("x-claude-code-session-id")).hash(&mut hasher);
            self.attempts.count(hasher.finish())
        } else {
            1
        };
        let counts = step.blocks.into_iter().filter(|s| s.times.is_none_or(|n| attempt <= n));
        counts.map(|scripted| scripted.block).collect()
    }

    fn next_serial(&self) -> String {
        format!("{:08x}{:06}", self.run, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, head: &http::request::Parts, body: &Bytes) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() == RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(RecordedRequest {
            method: head.method.clone(),
            target: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: head.headers.clone(),
            body: body.clone(),
        });
    }
}

/// Waits; without a time, for ever.
async fn wait(time: Option<Duration>) {
    match time {
        Some(time) if time.is_zero() => {}
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

const JSON: &str = "application/json";

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Player> {
    let mut response = Response::new(Player::whole(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

fn error(status: StatusCode, kind: &str, message: &str) -> Response<Player> {
    json(status, &json!({ "type": "error", "error": { "type": kind, "message": message } }))
}

fn models() -> serde_json::Value {
    let model = |id: &str, name: &str| {
        json!({ "type": "model", "id": id, "display_name": name,
                "created_at": "2026-01-01T00:00:00Z" })
    };
    let data = [
        model("claude-opus-5-5", "Claude Opus 5.5 (emulated)"),
        model("claude-sonnet-5-5", "Claude Sonnet 5.5 (emulated)"),
        model("claude-haiku-5-5", "Claude Haiku 5.5 (emulated)"),
    ];
    json!({ "data": data, "has_more": false, "first_id": "claude-opus-5-5",
            "last_id": "claude-haiku-5-5" })
}
