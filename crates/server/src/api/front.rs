//! What every request passes on its way in and out: an id, the guards, a net under panics, the
//! problem's text, headers that keep browsers careful, one count, and one line in the log if it
//! failed or was slow.
//!
//! It is one function rather than a stack of layers: at tens of thousands of requests per second
//! every layer that boxes a future or clones a header map shows.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use rclaude_types::{ErrorCode, Problem};

use super::{
    Api,
    extract::IDEMPOTENCY_KEY,
    problem::{self, Refusal, Result},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a request id that a caller chose.
const MAX_REQUEST_ID: usize = 128;
/// Characters of an idempotency key.
const MAX_KEY: usize = 255;
/// An answer that took longer to begin is worth a line in the log.
const SLOW: Duration = Duration::from_secs(2);

const CAREFUL: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Answers what no route answers; the front puts it into words.
pub(super) async fn no_such_route() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// The way in and out.
pub(super) async fn front(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let uri = request.uri().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();

    let mut response = match admit(&api, &request) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => match answer(&api, request, next).await {
            Some(response) => response,
            None => Refusal::new(
                ErrorCode::Internal,
                "the server made a mistake; its log has the rest under this request's id",
            )
            .into_response(),
        },
    };

    let took = started.elapsed();
    let failure = problem::take(&mut response, || format!("{method} {}", uri.path()));
    if let Some(mut problem) = failure {
        let shown = id.to_str().unwrap_or("");
        problem.request_id = Some(shown.to_owned());
        problem::write(&mut response, &problem);
        log(shown, &method, uri.path(), &problem);
    } else if took > SLOW {
        tracing::info!(
            http.request_id = id.to_str().unwrap_or(""), http.method = %method,
            http.path = uri.path(), http.status = response.status().as_u16(),
            http.seconds = took.as_secs_f64(),
            "{method} {} took long to answer", uri.path()
        );
    }

    let headers = response.headers_mut();
    for (name, value) in &CAREFUL {
        if !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(REQUEST_ID, id);
    count(&method, route.as_ref(), response.status(), took);
    response
}

/// One line: loud if it was our fault, audible if something is missing here, quiet if it was the
/// caller's. The detail may quote the caller, whose control characters stay out of the log.
fn log(request_id: &str, method: &Method, path: &str, problem: &Problem) {
    macro_rules! line {
        ($level:ident, $what:literal) => {
            tracing::$level!(
                http.request_id = request_id,
                http.method = %method,
                http.path = path,
                http.status = problem.status,
                error.code = %problem.code,
                concat!("{} {} ", $what, ": {}"), method, path, problem.detail.escape_debug()
            )
        };
    }
    match problem.status {
        500 | 507 => line!(error, "failed"),
        501.. => line!(warn, "is not possible now"),
        _ => line!(info, "refused"),
    }
}

/// The handler's answer; `None` if it panicked. What changes something is carried through even if
/// the client hangs up meanwhile: otherwise a change might be stored and nobody be told of it.
async fn answer(api: &Api, request: Request, next: Next) -> Option<Response> {
    // A handler's state is dropped with its future, so nothing half-done is seen again.
    let changes = !request.method().is_safe();
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    if changes { api.tasks.spawn(handler).await.ok()?.ok() } else { handler.await.ok() }
}

fn admit(api: &Api, request: &Request) -> Result<()> {
    api.hosts.check(request)?;
    if let Some(key) = request.headers().get(IDEMPOTENCY_KEY) {
        let visible = key.as_bytes().iter().all(u8::is_ascii_graphic);
        if !visible || !(1..=MAX_KEY).contains(&key.len()) {
            return Err(Refusal::invalid(
                "idempotency-key: must be 1 to 255 visible ASCII characters",
            ));
        }
    }
    Ok(())
}

/// The caller's own id if it has a decent one, else a new one: eight random digits that tell this
/// start of the server from others, and a count.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    static START: LazyLock<u32> = LazyLock::new(|| {
        let mut bytes = [0; 4];
        // Ids need to differ, not to be secret: without randomness they still count up.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        u32::from_ne_bytes(bytes)
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if let Some(given) = headers.get(REQUEST_ID) {
        let decent = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(b);
        if (1..=MAX_REQUEST_ID).contains(&given.len()) && given.as_bytes().iter().all(decent) {
            return given.clone();
        }
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("req_{:08x}{count:08x}", *START))
        .expect("hexadecimal digits make a header value")
}

fn count(method: &Method, route: Option<&MatchedPath>, status: StatusCode, took: Duration) {
    // Anything else a caller may invent would become a time series of its own.
    let method = match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    metrics::histogram!(
        "rclaude_http_request_seconds",
        "method" => method, "route" => route, "status" => status.as_u16().to_string()
    )
    .record(took);
}
