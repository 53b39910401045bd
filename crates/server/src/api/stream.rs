//! What the endless answers share.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Frame, KeepAlive, Sse},
    },
};
use bytes::Bytes;
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use rclaude_types::Problem;

use super::problem::Result;

/// Media type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Media type of a stream of JSON values, one to a line.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// One event of an answer in server-sent events (WHATWG HTML, "Server-sent events"), for the
/// contract alone.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what is written field by field")]
pub(super) struct ServerSentEvent {
    /// Where to go on from: send it as `last-event-id`.
    id: Option<String>,
    /// `problem` for an error that ends the stream, otherwise absent or `message`.
    event: Option<String>,
    /// JSON: an event, a frame, or a problem.
    data: String,
}

/// How often a silent stream says that it is still there: well within the minute after which
/// proxies and NATs forget a connection.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Asks proxies that buffer (nginx) not to.
pub(super) const UNBUFFERED: (HeaderName, &str) =
    (HeaderName::from_static("x-accel-buffering"), "no");

/// Whether the request asks for this media type by name. A `*/*` does not ask for a stream.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case(media_type))
}

/// Answers with server-sent events.
pub(super) fn sse(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    ([UNBUFFERED], Sse::new(frames.map(Ok::<_, Infallible>)).keep_alive(keep_alive)).into_response()
}

/// Bytes as a body. What fails before the first byte is still told as a problem; what fails after
/// it breaks the connection off, so that nobody takes a part for the whole.
pub(super) async fn body(mut bytes: BoxStream<'static, Result<Bytes, Problem>>) -> Result<Body> {
    let first = bytes.next().await.transpose()?;
    let rest = bytes.inspect_err(|problem| {
        tracing::warn!(error.code = %problem.code, "an answer broke off: {}", problem.detail);
    });
    Ok(Body::from_stream(stream::iter(first.map(Ok)).chain(rest)))
}

/// How a stream that has begun says that it cannot go on.
pub(super) fn problem_frame(problem: &Problem) -> Frame {
    Frame::default().event("problem").data(serde_json::to_string(problem).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, http::HeaderValue};
    use rclaude_types::ErrorCode;

    use super::*;

    #[test]
    fn a_stream_is_asked_for_by_name() {
        let accepts = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
            accepts(&headers, EVENT_STREAM)
        };
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json, Text/Event-Stream;q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!accepts("text/*"));
        assert!(!super::accepts(&HeaderMap::new(), EVENT_STREAM));
    }

    #[tokio::test]
    async fn what_fails_before_the_first_byte_is_a_problem_and_what_fails_later_breaks_off() {
        let piece = || Ok(Bytes::from_static(b"x"));
        let failure = || Err(Problem::new(ErrorCode::FileNotFound, "gone"));
        let whole = body(stream::iter(vec![piece(), piece()]).boxed()).await.unwrap();
        assert_eq!(to_bytes(whole, 9).await.unwrap(), "xx");
        let nothing = body(stream::iter(vec![]).boxed()).await.unwrap();
        assert_eq!(to_bytes(nothing, 9).await.unwrap(), "");
        let refused = body(stream::iter(vec![failure(), piece()]).boxed()).await.unwrap_err();
        assert_eq!(refused.0.code, ErrorCode::FileNotFound);
        let broken = body(stream::iter(vec![piece(), failure()]).boxed()).await.unwrap();
        assert!(to_bytes(broken, 9).await.is_err());
    }
}
