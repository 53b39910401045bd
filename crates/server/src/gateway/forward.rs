//! A request's way through the gateway.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request,
};
use hyper::body::Incoming;
use rclaude_types::SessionId;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{
    body::{Download, Upload},
    error::GatewayError,
    headers,
    in_flight::InFlight,
    meter::{Books, Meter},
    record::UsageSink,
    refusal::{NO_RETRY, Refusal, SHOULD_RETRY},
    token::SessionTokens,
    upstream::{Credential, GatewayConfig, Upstream},
};
use crate::clock::Clock;

/// The model gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Upstream,
    credential: Option<(HeaderName, HeaderValue)>,
    tokens: SessionTokens,
    first_byte_timeout: Duration,
    request_limit: usize,
    books: Arc<Books>,
}

/// What the gateway offers.
enum Endpoint {
    /// `POST /v1/messages`, the one that costs.
    Messages,
    /// Forwarded, and free.
    Free,
    /// `GET /`: agents look whether anybody is there.
    Greeting,
}

impl Gateway {
    /// A gateway that gives its records to `sink`, on `tasks`. Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work; see [`GatewayError`].
    pub fn new(
        config: &GatewayConfig,
        sink: Arc<dyn UsageSink>,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Result<Self, GatewayError> {
        let credential = config.credential.as_ref().map(Credential::header).transpose()?;
        let runtime = Handle::current();
        let books = Books { sink, clock, tasks, runtime, in_flight: InFlight::default() };
        let inner = Inner {
            upstream: Upstream::new(config)?,
            credential,
            tokens: SessionTokens::new(&config.secret),
            first_byte_timeout: config.first_byte_timeout,
            request_limit: config.request_limit,
            books: Arc::new(books),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Answers a request that came on a connection of session `from`; where the connection does
    /// not say whose it is, the token alone decides. Never fails: what goes wrong becomes an
    /// answer in the API's own shape.
    ///
    /// The connection should have `TCP_NODELAY` set, and be closed when its client has gone, which
    /// hyper's servers do unless told to allow half-closed connections.
    pub async fn handle<B>(&self, request: Request<B>, from: Option<&SessionId>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        let answer = self.inner.answer(head, Body::new(body), from).await;
        answer.unwrap_or_else(|refusal| {
            tracing::debug!(?refusal, "gateway: refused");
            refusal.into_response()
        })
    }

    /// Waits until what the session's ended requests used is with the sink. Called after an agent
    /// said its turn is over, it covers all requests of that turn.
    pub async fn recorded(&self, session: &SessionId) {
        self.inner.books.in_flight.none(session).await;
    }
}

impl Endpoint {
    fn of(head: &request::Parts) -> Result<Self, Refusal> {
        match (&head.method, head.uri.path()) {
            (&Method::POST, "/v1/messages") => Ok(Self::Messages),
            (&Method::POST, "/v1/messages/count_tokens") => Ok(Self::Free),
            (&Method::GET, "/v1/models") => Ok(Self::Free),
            (&Method::GET | &Method::HEAD, "/") => Ok(Self::Greeting),
            (method, path) => {
                Err(Refusal::Endpoint { method: method.to_string(), path: path.to_owned() })
            }
        }
    }
}

impl Inner {
    async fn answer(
        &self,
        head: request::Parts,
        body: Body,
        from: Option<&SessionId>,
    ) -> Result<Response<Body>, Refusal> {
        let endpoint = Endpoint::of(&head)?;
        if matches!(endpoint, Endpoint::Greeting) {
            return Ok(greeting());
        }
        let session = self.session(&head.headers, from)?;
        let credential = self.credential.as_ref().ok_or(Refusal::NoKey)?;
        let meter = matches!(endpoint, Endpoint::Messages)
            .then(|| Meter::new(Arc::clone(&self.books), session, &head.headers));
        self.forward(head, body, credential, meter).await
    }

    /// Whose request it is.
    fn session(&self, headers: &HeaderMap, from: Option<&SessionId>) -> Result<SessionId, Refusal> {
        headers::presented(headers)
            .and_then(|token| self.tokens.verify(token))
            .filter(|session| from.is_none_or(|from| from == session))
            .ok_or(Refusal::Token)
    }

    async fn forward(
        &self,
        mut head: request::Parts,
        body: Body,
        credential: &(HeaderName, HeaderValue),
        mut meter: Option<Meter>,
    ) -> Result<Response<Body>, Refusal> {
        let asked = self.ask(&mut head, body, credential, meter.as_ref()).await;
        let (mut head, body) = match asked {
            Ok(response) => response.into_parts(),
            Err(refusal) => {
                if let Some(meter) = &mut meter {
                    meter.refused(refusal.status());
                }
                return Err(refusal);
            }
        };
        if let Some(meter) = &mut meter {
            meter.answered(head.status, &head.headers);
        }
        if head.status == StatusCode::UNAUTHORIZED {
            // Passed on, the agent would take it for its own token's fault; and what the API says
            // about the key is not for the sandbox to read.
            tracing::error!(host = self.upstream.host, "the model API refuses the server's key");
            return Err(Refusal::KeyRefused);
        }
        headers::for_client(&mut head.headers);
        if matches!(head.status, StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN) {
            head.headers.insert(SHOULD_RETRY, NO_RETRY);
        }
        Ok(Response::from_parts(head, Body::new(Download { body, meter })))
    }

    async fn ask(
        &self,
        head: &mut request::Parts,
        body: Body,
        credential: &(HeaderName, HeaderValue),
        meter: Option<&Meter>,
    ) -> Result<Response<Incoming>, Refusal> {
        let limit = self.request_limit;
        if announced(&head.headers).is_some_and(|length| length > limit) {
            return Err(Refusal::TooLarge { limit });
        }
        let target = head.uri.path_and_query().and_then(|target| self.upstream.uri(target));
        let too_large = Arc::new(AtomicBool::new(false));
        let scan = meter.map(Meter::request);
        let mut request =
            Request::new(Upload { body, left: limit, too_large: Arc::clone(&too_large), scan });
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = target.unwrap_or_default();
        *request.headers_mut() = std::mem::take(&mut head.headers);
        headers::for_upstream(request.headers_mut(), credential);
        let asking = self.upstream.client.request(request);
        let host = || self.upstream.host.clone();
        match tokio::time::timeout(self.first_byte_timeout, asking).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) if too_large.load(Ordering::Relaxed) => Err(Refusal::TooLarge { limit }),
            Ok(Err(error)) => {
                let (host, cause) = (host(), root_cause(&error));
                tracing::warn!(host, cause, "the model API does not answer");
                if error.is_connect() {
                    Err(Refusal::Unreachable { host, cause })
                } else {
                    Err(Refusal::Broken { host, cause })
                }
            }
            Err(_elapsed) => {
                let seconds = self.first_byte_timeout.as_secs();
                Err(Refusal::TimedOut { host: host(), seconds })
            }
        }
    }
}

/// The body's length, where the request says it.
fn announced(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The innermost reason, which names what failed; the outer ones only say that it did.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn greeting() -> Response<Body> {
    let mut response = Response::new(Body::from(r#"{"service":"rclaude model gateway"}"#));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let upstream = &self.inner.upstream.host;
        f.debug_struct("Gateway").field("upstream", upstream).finish_non_exhaustive()
    }
}
