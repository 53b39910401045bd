//! Terminals in a session.

mod socket;

use axum::{
    Json as Answer,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rclaude_types::{
    CreateTerminal, ErrorCode, Page, Terminal, TerminalFrame, TerminalId, TerminalSize,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    execs::derived,
    extract::{InSession, Json, JsonOrNothing, Named, OnceKey, PathNoun, Query},
    problem::{Refusal, Result},
    sessions::created,
    validate::Validate,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(open, list))
        .routes(routes!(open_named, get, end))
        .routes(routes!(resize))
        .routes(routes!(attach))
}

#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AttachQuery {
    /// Offset to go on from, as long as it is kept; the screen as it is if absent, or if not.
    #[param(required = false)]
    offset: Option<u64>,
    /// Look on without typing.
    #[param(required = false, default = false)]
    read_only: bool,
    /// A name for what this client types, 1 to 64 printable ASCII characters. Its bytes are counted:
    /// `attached` tells how many have reached the terminal, and what is sent from there on is typed
    /// once, however often the connection breaks. Without a name nothing is counted.
    #[param(required = false, pattern = "^[!-~]{1,64}$", min_length = 1, max_length = 64)]
    writer: Option<String>,
    /// Lines of the client's own screen; the terminal is made as large first. With `cols`.
    #[param(required = false, minimum = 1, maximum = 500)]
    rows: Option<u16>,
    /// Columns of the client's own screen. With `rows`.
    #[param(required = false, minimum = 2, maximum = 1000)]
    cols: Option<u16>,
}

impl AttachQuery {
    fn size(&self) -> Option<TerminalSize> {
        Some(TerminalSize { rows: self.rows?, cols: self.cols? })
    }
}

impl Validate for AttachQuery {
    fn validate(&self) -> Result<()> {
        if self.rows.is_some() != self.cols.is_some() {
            return Err(Refusal::invalid("rows and cols: give both, or neither"));
        }
        if self.read_only && self.size().is_some() {
            return Err(Refusal::invalid("read_only: who only looks on gives no rows and cols"));
        }
        let fits = |name: &String| {
            (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
        };
        if !self.writer.as_ref().is_none_or(fits) {
            return Err(Refusal::invalid("writer: must be 1 to 64 printable ASCII characters"));
        }
        self.size().map_or(Ok(()), |size| size.validate())
    }
}

/// Opens a terminal.
///
/// A paused session wakes for it. The program has the terminal for its own, with job control, and
/// goes on whether or not anybody is attached, until it ends or is ended.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/terminals",
    operation_id = "open_terminal",
    tag = "terminals",
    request_body(content = Option<CreateTerminal>, description = "All of it may be left out."),
    responses((status = 201, description = "The terminal, opened.", body = Terminal,
        headers(("location" = String, description = "The terminal's path."))))
)]
pub(super) async fn open(
    State(api): State<Api>,
    InSession(id): InSession,
    OnceKey(once): OnceKey,
    JsonOrNothing(request): JsonOrNothing<CreateTerminal>,
) -> Result<Response> {
    let chosen = once.map(|key| derived::<TerminalId>(&id, &key));
    let terminal = api.sessions.open_terminal(&id, chosen, request).await?;
    let location = format!("/v1/sessions/{id}/terminals/{}", terminal.id);
    Ok(created(location, terminal).into_response())
}

/// Opens a terminal under an id of the caller's choice.
///
/// A repeated request adopts the terminal that the first one opened.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/terminals/{terminal}",
    operation_id = "open_named_terminal",
    tag = "terminals",
    request_body = CreateTerminal,
    responses((status = 200, description = "The terminal, opened now or before.", body = Terminal))
)]
pub(super) async fn open_named(
    State(api): State<Api>,
    InSession(id): InSession,
    terminal: Result<Named<TerminalId>>,
    Json(request): Json<CreateTerminal>,
) -> Result<Answer<Terminal>> {
    // What is malformed here is not missing: it was chosen badly.
    let Named(terminal) = terminal.map_err(|mut refusal| {
        if refusal.0.code == <TerminalId as PathNoun>::MISSING {
            refusal = Refusal::new(ErrorCode::InvalidRequest, refusal.0.detail);
        }
        refusal
    })?;
    Ok(Answer(api.sessions.open_terminal(&id, Some(terminal), request).await?))
}

/// Lists terminals, newest first: those that run, and the last sixteen that ended.
///
/// A paused session wakes for it, as for every request about terminals: what is known of them is
/// in its sandbox.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/terminals",
    operation_id = "list_terminals",
    tag = "terminals",
    responses((status = 200, description = "All terminals, on one page.", body = Page<Terminal>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Page<Terminal>>> {
    let data = api.sessions.terminals(&id).await?;
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Shows a terminal.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/terminals/{terminal}",
    operation_id = "get_terminal",
    tag = "terminals",
    responses((status = 200, description = "The terminal.", body = Terminal))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(terminal): Named<TerminalId>,
) -> Result<Answer<Terminal>> {
    Ok(Answer(api.sessions.get_terminal(&id, &terminal).await?))
}

/// Ends a terminal's program, as closing its window would: HUP, then KILL two seconds later.
///
/// Answers when it is over. What it printed stays readable until sixteen others have ended. One
/// that has ended already is left as it is.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{session}/terminals/{terminal}",
    operation_id = "end_terminal",
    tag = "terminals",
    responses((status = 204, description = "It is over."))
)]
pub(super) async fn end(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(terminal): Named<TerminalId>,
) -> Result<StatusCode> {
    api.sessions.end_terminal(&id, &terminal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a terminal so large. The last to say so wins; everybody attached is told.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/terminals/{terminal}/resize",
    operation_id = "resize_terminal",
    tag = "terminals",
    request_body = TerminalSize,
    responses((status = 204, description = "Its program has been told."))
)]
pub(super) async fn resize(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(terminal): Named<TerminalId>,
    Json(size): Json<TerminalSize>,
) -> Result<StatusCode> {
    api.sessions.resize_terminal(&id, &terminal, size).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Attaches to a terminal, as a WebSocket.
///
/// Binary frames are bytes: what the terminal prints, and, from the client, what is typed. Text
/// frames are JSON: from the server a `TerminalFrame`, `attached` first and `exited` last; from the
/// client a `TerminalControl`. The first `snapshot_bytes` of the binary frames after `attached` (or
/// `snapshot`) repaint the screen, whatever the client's showed before; the bytes after them are as
/// the terminal printed them, from `offset` on without gap or repetition. With `offset` in the
/// query a client that lost its connection goes on where it was. Nobody who reads slowly slows the
/// terminal: a client that lacks what is not kept any more (the last 8 MiB are) is sent `snapshot`.
///
/// Any number may be attached, to look on (`read_only`) or to type. Whoever is attached keeps the
/// session awake. It closes with 1000 and the reason `exited` after the program's end, with 1000
/// and `session_paused` or `session_deleted` when the session is set aside or deleted, with 1001
/// when the server stops, with 1008 when a client says what it may not, and with 1011 and a
/// problem's code when it cannot go on and the client may attach again. Credentials come as those
/// of the events' WebSocket do.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/terminals/{terminal}/attach",
    operation_id = "attach_terminal",
    tag = "terminals",
    params(AttachQuery),
    responses(
        (status = 101, description = "A WebSocket; text frames from the server are of this kind.",
            body = TerminalFrame),
    )
)]
pub(super) async fn attach(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(terminal): Named<TerminalId>,
    Query(query): Query<AttachQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    if !headers.contains_key(header::UPGRADE) {
        return Err(Refusal::invalid("a terminal is attached to as a WebSocket"));
    }
    let upgrade = upgrade.map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
    socket::open(api, id, terminal, query, upgrade).await
}
