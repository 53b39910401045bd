//! The log as server-sent events (WHATWG HTML, section 9.2).
//!
//! Nothing is buffered for a slow reader: hyper asks for the next frame when the socket has taken
//! the last, and the log is read when frames are asked for.

use axum::response::{Response, sse::Event as Frame};
use futures::{StreamExt, stream};
use rclaude_types::{Event, Seq, SessionId};

use crate::api::{
    Api,
    problem::Result,
    stream::{problem_frame, sse},
};

/// Follows the log from `after` on.
pub(super) async fn open(api: &Api, id: &SessionId, after: Seq) -> Result<Response> {
    let log = api.sessions.follow(id, after).await?;
    let frames = log
        .flat_map(|batch| match batch {
            Ok(events) => stream::iter(events.iter().map(frame).collect::<Vec<_>>()),
            Err(problem) => stream::iter(vec![problem_frame(&problem)]),
        })
        .take_until(api.stopping.clone().cancelled_owned());
    Ok(sse(frames))
}

/// One event. It has no name: `EventSource` hands unnamed ones to one listener, and the kind is in
/// the data.
pub(in crate::api) fn frame(event: &Event) -> Frame {
    let data = serde_json::to_string(event).unwrap_or_default();
    Frame::default().id(event.seq.to_string()).data(data)
}
