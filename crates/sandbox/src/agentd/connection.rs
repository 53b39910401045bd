//! One connection to a daemon, and the three shapes of call all others are made of.

use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rclaude_types::{
    Problem,
    agentd::{Health, Metrics, STDIN_ACCEPTED_HEADER, User},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Error, Result};
use crate::provider::AgentStream;

/// The most JSON a daemon may answer with.
pub const MAX_JSON_BYTES: usize = 16 * 1024 * 1024;

/// The most text of an error.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// What a stream may have under way before its reader takes it: enough for full speed over a Unix
/// socket, little enough that a hundred stalled readers stay cheap.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What all streams together may have under way. Far above any one of them, so that stalled
/// readers never take the room of those who read.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A connection to the daemon of one sandbox.
#[derive(Clone)]
pub struct Client {
    link: http2::SendRequest<Body>,
    /// Cancelled when the connection ends.
    ended: CancellationToken,
    authorization: HeaderValue,
    pub(super) files_as: User,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Client {
    /// Speaks HTTP/2 over `stream`. The task that drives the connection runs in `tasks` and ends
    /// with the last clone of the client and the last answer being read.
    pub async fn connect(stream: AgentStream, token: &str, tasks: &TaskTracker) -> Result<Self> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::Unsayable("the token is no header value".to_owned()))?;
        authorization.set_sensitive(true);
        let (link, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(64 * 1024)
            .max_header_list_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tasks.spawn(async move {
            // Each request under way gets the reason itself.
            let _lost = connection.await;
            drop(guard);
        });
        Ok(Self { link, ended, authorization, files_as: User::Agent })
    }

    /// The same connection, with file operations in the rights of `user`.
    #[must_use]
    pub fn files_as(&self, user: User) -> Self {
        Self { files_as: user, ..self.clone() }
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        self.ended.cancelled().await;
    }

    /// Whether the connection is known to be gone.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// `GET /v1/health`.
    pub async fn health(&self) -> Result<Health> {
        self.json(Method::GET, "/v1/health", empty()).await
    }

    /// `GET /v1/metrics`.
    pub async fn metrics(&self) -> Result<Metrics> {
        self.json(Method::GET, "/v1/metrics", empty()).await
    }

    /// `POST /v1/shutdown`: ends all processes in order, then the daemon. The link goes with it.
    pub async fn shutdown(&self) -> Result<()> {
        self.nothing(Method::POST, "/v1/shutdown", empty()).await
    }

    /// Sends a request and returns the answer if it is a success, with its body unread.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://agentd{path}"))
            .header(header::AUTHORIZATION, &self.authorization);
        if let Some(own) = request.headers_mut() {
            own.extend(headers);
        }
        let request = request.body(body).map_err(|error| Error::Unsayable(error.to_string()))?;
        let mut link = self.link.clone();
        link.ready().await?;
        let response = link.send_request(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// A call that is answered in JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T> {
        let response = self.send(method, path, HeaderMap::new(), body).await?;
        let bytes = collect(response.into_body(), MAX_JSON_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// A call whose answer is that it was done.
    pub(super) async fn nothing(&self, method: Method, path: &str, body: Body) -> Result<()> {
        let response = self.send(method, path, HeaderMap::new(), body).await?;
        collect(response.into_body(), MAX_PROBLEM_BYTES).await?;
        Ok(())
    }
}

/// Turns an answer that is no success into the error it stands for.
async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let accepted = response
        .headers()
        .get(STDIN_ACCEPTED_HEADER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    if let (StatusCode::CONFLICT, Some(expected)) = (status, accepted) {
        return Error::StdinGap { expected };
    }
    match collect(response.into_body(), MAX_PROBLEM_BYTES).await {
        Ok(bytes) => match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Error::Refused(Box::new(problem)),
            Err(_) => Error::Malformed(format!("status {status} without a problem")),
        },
        Err(error) => error,
    }
}

/// Reads a body to its end, refusing more than `limit`.
pub(super) async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(Error::Malformed(format!("an answer of more than {limit} bytes")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// No body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is at hand.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A body of JSON.
pub(super) fn json_body(value: &impl Serialize) -> Result<Body> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Unsayable(error.to_string()))?;
    Ok(full(bytes.into()))
}
