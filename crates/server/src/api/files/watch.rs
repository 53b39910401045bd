//! Changes of files, as they happen.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response, sse::Event as SseFrame},
};
use bytes::Bytes;
use futures::StreamExt;
use rclaude_types::FileEvent;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{FileQuery, SandboxPath};
use crate::api::{
    Api,
    extract::InSession,
    problem::{Refusal, Result},
    stream::{EVENT_STREAM, NDJSON, ServerSentEvent, UNBUFFERED, accepts, problem_frame, sse},
    validate::Validate,
};

/// Milliseconds that changes may be gathered.
const GATHER: std::ops::RangeInclusive<u32> = 10..=10_000;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(watch))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WatchQuery {
    /// The directory; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
    /// All below it too, and directories that appear.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    recursive: bool,
    /// How many milliseconds changes are gathered before they are told, each path once.
    #[serde(default = "gather")]
    #[param(required = false, default = 100, minimum = 10, maximum = 10_000)]
    debounce_ms: u32,
}

const fn yes() -> bool {
    true
}

const fn gather() -> u32 {
    100
}

impl Validate for WatchQuery {
    fn validate(&self) -> Result<()> {
        if GATHER.contains(&self.debounce_ms) {
            return Ok(());
        }
        Err(Refusal::invalid("debounce_ms: must be from 10 to 10000"))
    }
}

/// Watches a directory.
///
/// The answer goes on until the directory is gone or the session is set aside; it does not keep a
/// session from being set aside. The first event is `ready`: what changes after it is told.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/watch",
    operation_id = "watch_files",
    tag = "files",
    params(WatchQuery),
    responses((status = 200, description = "Events, one a line, or as server-sent events if \
        `accept` asks for them.", content(
            (FileEvent = "application/x-ndjson"),
            (ServerSentEvent = "text/event-stream"),
        )))
)]
pub(super) async fn watch(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let (path, recursive) = (query.path.path(), query.recursive);
    let events = api.sessions.watch_files(&id, path, recursive, query.debounce_ms).await?;
    let events = events.take_until(api.stopping.clone().cancelled_owned());
    if accepts(&headers, EVENT_STREAM) {
        return Ok(sse(events.map(|event| match event {
            Ok(event) => {
                SseFrame::default().data(serde_json::to_string(&event).unwrap_or_default())
            }
            Err(problem) => problem_frame(&problem),
        })));
    }
    // An error breaks the connection off: an orderly end would claim that this was all.
    let lines = events.map(|event| event.map(|event| line(&event)));
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    Ok(([content_type], [UNBUFFERED], Body::from_stream(lines)).into_response())
}

fn line(event: &FileEvent) -> Bytes {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line.into()
}
