//! The endpoints of the original API, under their names.
//!
//! Those that have an equal in `/v1` are the same handlers; [`ALIASES`] lists them for the
//! contract. Three have none: a command run to its end, a prompt whose answer is streamed, and one
//! address for files and directories alike.

use std::collections::BTreeMap;

use axum::{
    Json as Answer,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response, sse::Event as Frame},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream, stream::BoxStream};
use rclaude_types::{
    CreateExec, CreateTurn, ErrorCode, Event, EventBody, ExecFrame, ExecStream, FileList, Problem,
    Turn, TurnId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, events, execs,
    extract::{InSession, Json, JsonOnce, OnceKey},
    files::{self, AnyQuery, FileQuery},
    openapi::Octets,
    problem::{Refusal, Result},
    sessions::{self, created},
    stream::{EVENT_STREAM, ServerSentEvent, accepts, problem_frame, sse},
    validate::Validate,
};

/// Paths that are other names of `/v1` paths, and their methods.
pub(super) const ALIASES: [(&str, &str, &[&str]); 4] = [
    ("/api/sessions", "/v1/sessions", &["post"]),
    ("/api/sessions/{session}", "/v1/sessions/{session}", &["get", "delete"]),
    ("/api/sessions/{session}/pause", "/v1/sessions/{session}/pause", &["post"]),
    ("/api/sessions/{session}/resume", "/v1/sessions/{session}/resume", &["post"]),
];

/// Bytes of each output stream that one answer holds; a longer one is for `/v1`, which streams.
const MAX_OUTPUT: usize = 4 << 20;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .route("/api/sessions", post(sessions::create))
        .route("/api/sessions/{session}", get(sessions::get).delete(sessions::delete))
        .route("/api/sessions/{session}/pause", post(sessions::pause))
        .route("/api/sessions/{session}/resume", post(sessions::resume))
        .routes(routes!(execute))
        .routes(routes!(chat))
        .routes(routes!(read_files))
}

/// A command as a shell's line or as program and arguments.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged)]
enum Command {
    /// Run by the sandbox's shell.
    Line(String),
    /// Run as it is.
    Arguments(Vec<String>),
}

/// Body of `POST /api/sessions/{id}/execute`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    /// What to run.
    command: Command,
    /// Where to run it; the workspace if absent.
    #[schema(min_length = 1, max_length = 4096)]
    cwd: Option<String>,
    /// Environment on top of the session's.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Kill it after this many seconds.
    #[schema(minimum = 1, maximum = 604_800)]
    timeout_seconds: Option<u32>,
}

impl Execute {
    fn request(&self) -> CreateExec {
        let command = match &self.command {
            Command::Line(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Command::Arguments(arguments) => arguments.clone(),
        };
        CreateExec {
            command,
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            root: false,
            stdin: false,
            timeout_seconds: self.timeout_seconds,
        }
    }
}

impl Validate for Execute {
    fn validate(&self) -> Result<()> {
        self.request().validate()
    }
}

/// What a command printed and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Executed {
    /// Standard output, with bytes that are not UTF-8 replaced.
    stdout: String,
    /// Standard error, likewise.
    stderr: String,
    /// Exit code; 128 and the signal's number for a command that a signal ended, as shells have it.
    exit_code: i32,
    /// One of the two was longer than 4 MiB and is cut off there.
    truncated: bool,
}

/// Runs a command to its end.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/execute",
    operation_id = "original_execute",
    tag = "original",
    request_body = Execute,
    responses((status = 200, description = "It ended.", body = Executed))
)]
pub(super) async fn execute(
    State(api): State<Api>,
    InSession(id): InSession,
    OnceKey(once): OnceKey,
    Json(request): Json<Execute>,
) -> Result<Answer<Executed>> {
    let chosen = once.map(|key| execs::derived(&id, &key));
    let (_, frames) = api.sessions.exec_and_follow(&id, chosen, request.request()).await?;
    Ok(Answer(gather(frames).await?))
}

async fn gather(mut frames: BoxStream<'static, Result<ExecFrame, Problem>>) -> Result<Executed> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut truncated = false;
    while let Some(frame) = frames.next().await {
        match frame? {
            ExecFrame::Started { .. } => {}
            ExecFrame::Output { stream, data, .. } => {
                let bytes = BASE64_STANDARD.decode(data).unwrap_or_default();
                let kept = match stream {
                    ExecStream::Stdout => &mut stdout,
                    ExecStream::Stderr => &mut stderr,
                };
                let room = bytes.len().min(MAX_OUTPUT - kept.len());
                truncated |= room < bytes.len();
                kept.extend_from_slice(&bytes[..room]);
            }
            ExecFrame::Exited { code, signal, .. } => {
                let exit_code = code.or_else(|| signal.map(|signal| 128 + signal)).unwrap_or(-1);
                let [stdout, stderr] =
                    [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                return Ok(Executed { stdout, stderr, exit_code, truncated });
            }
            ExecFrame::Lost { reason } => {
                return Err(Refusal::new(ErrorCode::SandboxUnavailable, reason));
            }
        }
    }
    Err(Refusal::new(ErrorCode::ShuttingDown, "the server stopped before the command ended"))
}

/// Body of `POST /api/sessions/{id}/chat`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Chat {
    /// What to do. May be called `prompt` as well.
    #[serde(alias = "prompt")]
    #[schema(min_length = 1, max_length = 4_194_304)]
    message: String,
    /// Answer with the turn's events as they come, until it ends.
    #[serde(default)]
    stream: bool,
}

impl Validate for Chat {
    fn validate(&self) -> Result<()> {
        CreateTurn { text: self.message.clone(), steer: false }.validate()
    }
}

/// Sends a prompt.
///
/// With `stream`, or `accept: text/event-stream`, the answer is the turn's events until it ends.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/chat",
    operation_id = "original_chat",
    tag = "original",
    request_body = Chat,
    responses(
        (status = 201, description = "The turn, queued.", body = Turn,
            headers(("location" = String, description = "The turn's path."))),
        (status = 200, description = "The turn's events.",
            body = ServerSentEvent, content_type = "text/event-stream"),
    )
)]
pub(super) async fn chat(
    State(api): State<Api>,
    InSession(id): InSession,
    headers: HeaderMap,
    JsonOnce(chat, once): JsonOnce<Chat>,
) -> Result<Response> {
    let prompt = CreateTurn { text: chat.message, steer: false };
    if !chat.stream && !accepts(&headers, EVENT_STREAM) {
        let turn = api.sessions.send(&id, prompt, once).await?;
        let location = format!("/v1/sessions/{id}/turns/{}", turn.id);
        return Ok(created(location, turn).into_response());
    }
    // A repeated request is answered with a turn that may have begun long ago: its events are
    // looked for from the beginning.
    let repeatable = once.is_some();
    let after = if repeatable { 0 } else { api.sessions.get(&id).await?.last_seq };
    let turn = api.sessions.send(&id, prompt, once).await?;
    let log = api.sessions.follow(&id, after).await?;
    let frames = of_turn(log, turn.id).take_until(api.stopping.clone().cancelled_owned());
    Ok(sse(frames))
}

/// A turn's events, the one that ends it last.
fn of_turn(
    log: BoxStream<'static, Result<Vec<Event>, Problem>>,
    turn: TurnId,
) -> impl futures::Stream<Item = Frame> {
    // Unfolded rather than filtered: after the last event nothing more is asked of the log, which
    // may stay silent for ever.
    stream::unfold(Some(log), move |log| {
        let turn = turn.clone();
        async move {
            let mut log = log?;
            let (frames, more) = match log.next().await? {
                Ok(events) => {
                    let mut ours = Vec::new();
                    let mut more = true;
                    for event in events.iter().filter(|event| event.turn.as_ref() == Some(&turn)) {
                        ours.push(events::frame(event));
                        more &= !matches!(event.body, EventBody::TurnEnded { .. });
                    }
                    (ours, more)
                }
                Err(problem) => (vec![problem_frame(&problem)], false),
            };
            Some((stream::iter(frames), more.then_some(log)))
        }
    })
    .flatten()
}

/// Lists a directory or reads a file.
#[utoipa::path(
    get,
    path = "/api/sessions/{session}/files",
    operation_id = "original_files",
    tag = "original",
    params(AnyQuery),
    responses(
        (status = 200, description = "A directory's entries, or a file's bytes.", content(
            (FileList = "application/json"),
            (Octets = "application/octet-stream"),
        )),
        (status = 206, description = "A range of a file's bytes.",
            body = Octets, content_type = "application/octet-stream"),
    )
)]
pub(super) async fn read_files(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<AnyQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    files::list_or_send(&api, &id, query.path(), &headers).await
}

#[cfg(test)]
mod tests {
    use rclaude_types::{ExecId, MicroUsd, Timestamp, TokenUsage, TurnOutcome};

    use super::*;

    fn output(stream: ExecStream, text: &[u8]) -> ExecFrame {
        ExecFrame::Output { stream, offset: 0, data: BASE64_STANDARD.encode(text) }
    }

    fn exited(code: Option<i32>, signal: Option<i32>) -> ExecFrame {
        ExecFrame::Exited { code, signal, out_of_memory: false }
    }

    async fn gathered(frames: Vec<ExecFrame>) -> Executed {
        gather(stream::iter(frames).map(Ok).boxed()).await.unwrap()
    }

    #[tokio::test]
    async fn a_commands_two_outputs_are_gathered_apart() {
        let frames = vec![
            ExecFrame::Started { id: ExecId::generate() },
            output(ExecStream::Stdout, b"a"),
            output(ExecStream::Stderr, b"b"),
            output(ExecStream::Stdout, b"\xff"),
            exited(Some(3), None),
        ];
        let wanted = Executed {
            stdout: "a\u{fffd}".into(),
            stderr: "b".into(),
            exit_code: 3,
            truncated: false,
        };
        assert_eq!(gathered(frames).await, wanted);
    }

    #[tokio::test]
    async fn too_long_an_output_is_cut_off_and_says_so() {
        let half = vec![b'x'; MAX_OUTPUT / 2 + 1];
        let frames = vec![
            output(ExecStream::Stdout, &half),
            output(ExecStream::Stdout, &half),
            exited(None, Some(9)),
        ];
        let executed = gathered(frames).await;
        assert_eq!((executed.stdout.len(), executed.truncated), (MAX_OUTPUT, true));
        assert_eq!(executed.exit_code, 137);
    }

    #[tokio::test]
    async fn a_turns_stream_ends_with_the_turn_though_the_log_goes_on() {
        let (ours, other) = (TurnId::generate(), TurnId::generate());
        let event = |seq, turn: &TurnId, body| Event {
            seq,
            at: Timestamp::default(),
            turn: Some(turn.clone()),
            body,
        };
        let ended = EventBody::TurnEnded {
            outcome: TurnOutcome::Completed,
            failure: None,
            tokens: TokenUsage::default(),
            cost: MicroUsd(0),
            diff: None,
        };
        let log = stream::iter(vec![
            Ok(vec![event(1, &other, ended.clone()), event(2, &ours, EventBody::TurnStarted {})]),
            Ok(vec![event(3, &ours, ended)]),
        ])
        .chain(stream::pending());
        assert_eq!(of_turn(log.boxed(), ours).count().await, 2);
    }
}
