//! A command's output on its way out, as lines of JSON or as server-sent events.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response, sse::Event as SseFrame},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use rclaude_types::{ExecFrame, ExecStream, Problem};

use crate::api::{
    Api,
    problem::{Refusal, Result},
    stream::{EVENT_STREAM, NDJSON, UNBUFFERED, accepts, problem_frame, sse},
};

type Frames = BoxStream<'static, Result<ExecFrame, Problem>>;

/// How far a reader is in the two streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

impl Offsets {
    /// From `last-event-id`, as [`frame`](Self::frame) gave it.
    pub(super) fn of_last_event(headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(value) = headers.get("last-event-id") else { return Ok(None) };
        let offsets = value.to_str().ok().and_then(|text| {
            let (stdout, stderr) = text.split_once('-')?;
            Some(Self { stdout: stdout.parse().ok()?, stderr: stderr.parse().ok()? })
        });
        let refusal = || Refusal::invalid("last-event-id: is no pair of offsets, `stdout-stderr`");
        offsets.map(Some).ok_or_else(refusal)
    }

    /// A server-sent event whose id is how far a reader is that has seen it.
    fn frame(&mut self, frame: &ExecFrame) -> SseFrame {
        if let ExecFrame::Output { stream, offset, data } = frame {
            let length = BASE64_STANDARD.decode(data).map_or(0, |bytes| bytes.len() as u64);
            match stream {
                ExecStream::Stdout => self.stdout = offset + length,
                ExecStream::Stderr => self.stderr = offset + length,
            }
        }
        SseFrame::default()
            .id(format!("{}-{}", self.stdout, self.stderr))
            .data(serde_json::to_string(frame).unwrap_or_default())
    }
}

/// Answers with the frames in the manner asked for.
pub(super) fn answer(
    api: &Api,
    headers: &HeaderMap,
    frames: Frames,
    mut reached: Offsets,
) -> Response {
    let frames = frames.take_until(api.stopping.clone().cancelled_owned());
    if accepts(headers, EVENT_STREAM) {
        return sse(frames.map(move |frame| match frame {
            Ok(frame) => reached.frame(&frame),
            Err(problem) => problem_frame(&problem),
        }));
    }
    // An error breaks the connection off: an orderly end would claim that this was all.
    let lines = frames.map(|frame| frame.map(|frame| line(&frame)));
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    ([content_type], [UNBUFFERED], Body::from_stream(lines)).into_response()
}

fn line(frame: &ExecFrame) -> Bytes {
    let mut line = serde_json::to_vec(frame).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_id_is_how_far_its_reader_is() {
        let mut reached = Offsets { stdout: 5, stderr: 0 };
        let data = BASE64_STANDARD.encode("abc");
        let frame = ExecFrame::Output { stream: ExecStream::Stderr, offset: 0, data };
        let _ = reached.frame(&frame);
        assert_eq!(reached, Offsets { stdout: 5, stderr: 3 });
        let headers = HeaderMap::from_iter([(
            "last-event-id".parse().unwrap(),
            HeaderValue::from_static("5-3"),
        )]);
        assert_eq!(Offsets::of_last_event(&headers).unwrap(), Some(reached));
    }

    #[test]
    fn a_malformed_last_event_id_is_refused() {
        for text in ["", "5", "5-", "-3", "a-b", "5-3-1"] {
            let value = HeaderValue::from_str(text).unwrap();
            let headers = HeaderMap::from_iter([("last-event-id".parse().unwrap(), value)]);
            assert!(Offsets::of_last_event(&headers).is_err(), "{text}");
        }
    }
}
