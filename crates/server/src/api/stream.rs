//! What the endless answers share.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, header},
    response::{
        IntoResponse, Response,
        sse::{Event as Frame, KeepAlive, Sse},
    },
};
use futures::Stream;
use rclaude_types::Problem;

/// Media type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";
/// Media type of a stream of JSON values, one to a line.
pub(super) const NDJSON: &str = "application/x-ndjson";

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
    let frames = futures::StreamExt::map(frames, Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    ([UNBUFFERED], Sse::new(frames).keep_alive(keep_alive)).into_response()
}

/// How a stream that has begun says that it cannot go on.
pub(super) fn problem_frame(problem: &Problem) -> Frame {
    Frame::default().event("problem").data(serde_json::to_string(problem).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

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
}
