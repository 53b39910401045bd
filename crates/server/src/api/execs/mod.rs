//! Commands run in a session from outside.

mod output;

use axum::{
    Json as Answer,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rclaude_types::{
    CreateExec, ErrorCode, Exec, ExecFrame, ExecId, ExecInput, Page, SessionId, SignalExec,
    TerminalId,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, Json, Named, OnceKey, PathNoun, Query, must_exist, read},
    openapi::Octets,
    problem::{Refusal, Result},
    sessions::created,
    stream::ServerSentEvent,
    validate::Validate,
};

/// Bytes of standard input at once.
const MAX_INPUT: usize = 8 << 20;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(start, list))
        .routes(routes!(start_named, get))
        .routes(routes!(output))
        .routes(routes!(stdin))
        .routes(routes!(signal))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// Answer with the command's output as it comes, until it ends.
    #[param(required = false, default = false)]
    follow: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct OutputQuery {
    /// Offset in standard output to begin at.
    #[param(required = false, default = 0)]
    stdout: u64,
    /// Offset in standard error to begin at.
    #[param(required = false, default = 0)]
    stderr: u64,
    /// Go on until the command ends.
    #[param(required = false, default = false)]
    follow: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct StdinQuery {
    /// Where in standard input these bytes belong; after all that came before if absent. What was
    /// given already is dropped, so a repeated request does no harm.
    offset: Option<u64>,
    /// End standard input after them.
    #[param(required = false, default = false)]
    close: bool,
}

macro_rules! free_of_bounds {
    ($($query:ty),*) => {$(
        impl Validate for $query {
            fn validate(&self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}
free_of_bounds!(StartQuery, OutputQuery, StdinQuery);

/// Starts a command.
///
/// A paused session wakes for it. With `follow`, its output is the answer: frames as
/// `…/execs/{exec}/output` has them, the command's path in `location`.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/execs",
    operation_id = "start_exec",
    tag = "execs",
    params(StartQuery),
    request_body = CreateExec,
    responses(
        (status = 201, description = "The command, started.", body = Exec,
            headers(("location" = String, description = "The command's path."))),
        (status = 200, description = "Its output, with `follow`.", content(
            (ExecFrame = "application/x-ndjson"),
            (ServerSentEvent = "text/event-stream"),
        )),
    )
)]
pub(super) async fn start(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<StartQuery>,
    OnceKey(once): OnceKey,
    headers: HeaderMap,
    Json(request): Json<CreateExec>,
) -> Result<Response> {
    let chosen = once.map(|key| derived::<ExecId>(&id, &key));
    let location = |exec: &Exec| format!("/v1/sessions/{id}/execs/{}", exec.id);
    if !query.follow {
        let exec = api.sessions.exec(&id, chosen, request).await?;
        return Ok(created(location(&exec), exec).into_response());
    }
    let (exec, frames) = api.sessions.exec_and_follow(&id, chosen, request).await?;
    let answer = output::answer(&api, &headers, frames, output::Offsets::default());
    Ok(([(header::LOCATION, location(&exec))], answer).into_response())
}

/// A repeated request adopts what its first one started if it chooses the same id, so the id
/// follows from the key.
pub(super) fn derived<T: Chosen>(session: &SessionId, key: &str) -> T {
    let hash =
        Sha256::new().chain_update(session.as_str()).chain_update([0]).chain_update(key).finalize();
    let digits = hash[..16].iter().fold(String::new(), |digits, b| format!("{digits}{b:02x}"));
    T::of(&digits)
}

/// An id that its caller may choose.
pub(super) trait Chosen {
    /// The id with these 32 hexadecimal digits.
    fn of(digits: &str) -> Self;
}

impl Chosen for ExecId {
    fn of(digits: &str) -> Self {
        format!("exe_{digits}").parse().expect("32 hexadecimal digits make an id")
    }
}

impl Chosen for TerminalId {
    fn of(digits: &str) -> Self {
        format!("trm_{digits}").parse().expect("32 hexadecimal digits make an id")
    }
}

/// Starts a command under an id of the caller's choice.
///
/// A repeated request adopts the command that the first one started.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/execs/{exec}",
    operation_id = "start_named_exec",
    tag = "execs",
    request_body = CreateExec,
    responses((status = 200, description = "The command, started now or before.", body = Exec))
)]
pub(super) async fn start_named(
    State(api): State<Api>,
    InSession(id): InSession,
    exec: Result<Named<ExecId>>,
    Json(request): Json<CreateExec>,
) -> Result<Answer<Exec>> {
    // What is malformed here is not missing: it was chosen badly.
    let Named(exec) = exec.map_err(|mut refusal| {
        if refusal.0.code == <ExecId as PathNoun>::MISSING {
            refusal = Refusal::new(ErrorCode::InvalidRequest, refusal.0.detail);
        }
        refusal
    })?;
    Ok(Answer(api.sessions.exec(&id, Some(exec), request).await?))
}

/// Lists commands, newest first.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/execs",
    operation_id = "list_execs",
    tag = "execs",
    responses((status = 200, description = "All commands, on one page.", body = Page<Exec>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Page<Exec>>> {
    let data = api.sessions.execs(&id).await?;
    if data.is_empty() {
        must_exist(&api, &id).await?;
    }
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Shows a command.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/execs/{exec}",
    operation_id = "get_exec",
    tag = "execs",
    responses((status = 200, description = "The command.", body = Exec))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(exec): Named<ExecId>,
) -> Result<Answer<Exec>> {
    Ok(Answer(api.sessions.get_exec(&id, &exec).await?))
}

/// Reads what a command printed, and what it prints.
///
/// One frame to a line, or, with `accept: text/event-stream`, to an event; an event's id is the
/// two offsets reached and is understood as `last-event-id`. A stream that ends with neither
/// `exited` nor `lost` while it was to be followed broke off: ask again from the offsets reached.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/execs/{exec}/output",
    operation_id = "read_exec_output",
    tag = "execs",
    params(
        OutputQuery,
        ("last-event-id" = Option<String>, Header, pattern = "^[0-9]{1,19}-[0-9]{1,19}$",
            description = "Offsets reached in standard output and standard error, \
                as a browser's `EventSource` sends them."),
    ),
    responses(
        (status = 200, description = "Frames: `started` first, `exited` or `lost` last.", content(
            (ExecFrame = "application/x-ndjson"),
            (ServerSentEvent = "text/event-stream"),
        )),
    )
)]
pub(super) async fn output(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(exec): Named<ExecId>,
    Query(query): Query<OutputQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let asked = output::Offsets { stdout: query.stdout, stderr: query.stderr };
    let from = output::Offsets::of_last_event(&headers)?.unwrap_or(asked);
    let frames =
        api.sessions.exec_output(&id, &exec, from.stdout, from.stderr, query.follow).await?;
    Ok(output::answer(&api, &headers, frames, from))
}

/// Gives a command standard input.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/execs/{exec}/stdin",
    operation_id = "write_exec_stdin",
    tag = "execs",
    params(StdinQuery),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, description = "How much it has been given in all.", body = ExecInput))
)]
pub(super) async fn stdin(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(exec): Named<ExecId>,
    Query(query): Query<StdinQuery>,
    request: Request,
) -> Result<Answer<ExecInput>> {
    let (parts, body) = request.into_parts();
    let data = read(&parts.headers, body, MAX_INPUT).await?;
    let offset = api.sessions.exec_stdin(&id, &exec, query.offset, data, query.close).await?;
    Ok(Answer(ExecInput { offset }))
}

/// Sends a signal to a command's process group.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/execs/{exec}/signal",
    operation_id = "signal_exec",
    tag = "execs",
    request_body = SignalExec,
    responses((status = 204, description = "Sent."))
)]
pub(super) async fn signal(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(exec): Named<ExecId>,
    Json(request): Json<SignalExec>,
) -> Result<StatusCode> {
    api.sessions.exec_signal(&id, &exec, request.signal.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_names_the_same_command_in_one_session() {
        let [a, b] = [(); 2].map(|()| SessionId::generate());
        let derived = derived::<ExecId>;
        assert_eq!(derived(&a, "owner:k"), derived(&a, "owner:k"));
        assert_ne!(derived(&a, "owner:k"), derived(&b, "owner:k"));
        assert_ne!(derived(&a, "owner:k"), derived(&a, "owner:l"));
    }
}
