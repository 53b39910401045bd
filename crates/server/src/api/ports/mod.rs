//! Ports of a session.

mod socket;

use axum::{
    Json as Answer,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, header},
    response::Response,
};
use rclaude_types::{CreatePortLink, Page, Port, PortLink, Preview, SessionPort, Timestamp};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InPort, InSession, Json},
    problem::{Refusal, Result},
    validate::Validate,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(connect))
        .routes(routes!(set_preview))
        .routes(routes!(link))
}

/// Lists the TCP ports on which programs in the session listen.
///
/// A paused session wakes for it.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/ports",
    operation_id = "list_ports",
    tag = "ports",
    responses((
        status = 200,
        description = "All ports, by number, on one page.",
        body = Page<SessionPort>,
    ))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Page<SessionPort>>> {
    let ports = api.sessions.ports(&id).await?;
    let public = api.sessions.public_ports(&id).await?;
    let shown = |port: Port| SessionPort {
        url: api.previews.url(&id, port.port).to_string(),
        public: public.contains(&port.port),
        port,
    };
    let data = ports.into_iter().map(shown).collect();
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Says who may see what a port of the session serves.
///
/// Private to begin with: seen through links, and with credentials of the API in `x-rclaude-token`.
/// It holds for the port, whatever listens there.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/ports/{port}/preview",
    operation_id = "set_preview",
    tag = "ports",
    request_body = Preview,
    responses((status = 200, description = "As it is now.", body = Preview))
)]
pub(super) async fn set_preview(
    State(api): State<Api>,
    InSession(id): InSession,
    InPort(port): InPort,
    Json(request): Json<Preview>,
) -> Result<Answer<Preview>> {
    api.sessions.set_public_port(&id, port, request.public).await?;
    Ok(Answer(request))
}

/// Makes a link to what a port of the session serves.
///
/// Whoever opens it sees the preview until it expires; links cannot be taken back one by one.
/// Nothing is stored, nothing needs to listen yet, and a paused session stays so until it is opened.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/ports/{port}/links",
    operation_id = "create_port_link",
    tag = "ports",
    request_body = CreatePortLink,
    responses((status = 200, description = "The link.", body = PortLink))
)]
pub(super) async fn link(
    State(api): State<Api>,
    InSession(id): InSession,
    InPort(port): InPort,
    Json(request): Json<CreatePortLink>,
) -> Result<Answer<PortLink>> {
    let micros = i64::from(request.expires_in_seconds) * 1_000_000;
    let expires_at = Timestamp::from_micros(api.clock.now().as_micros() + micros);
    Ok(Answer(api.previews.link(&id, port, expires_at)))
}

impl Validate for Preview {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl Validate for CreatePortLink {
    fn validate(&self) -> Result<()> {
        let given = self.expires_in_seconds;
        if (1..=Self::MAX_SECONDS).contains(&given) {
            return Ok(());
        }
        let detail = format!("expires_in_seconds: must be 1 to {}", Self::MAX_SECONDS);
        Err(Refusal::invalid(detail))
    }
}

/// Connects to a port of the session, as a WebSocket.
///
/// Binary frames are the connection's bytes, both ways; an empty one ends the side of who sends it,
/// as TCP's FIN does, and the other side may go on. It closes with 1000 when both sides have ended,
/// with 1001 when the server stops, with 1008 for a text frame, and with 1011 when the connection
/// broke: the program is gone, the session was set aside. A paused session wakes for it, and one
/// that is connected to does not pause by itself. Where nothing listens it is refused before the
/// upgrade, with `port_closed`. Credentials come as those of the events' WebSocket do.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/ports/{port}/connect",
    operation_id = "connect_port",
    tag = "ports",
    responses((status = 101, description = "A WebSocket that carries one connection."))
)]
pub(super) async fn connect(
    State(api): State<Api>,
    InSession(id): InSession,
    InPort(port): InPort,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    if !headers.contains_key(header::UPGRADE) {
        return Err(Refusal::invalid("a port is connected to as a WebSocket"));
    }
    let upgrade = upgrade.map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
    socket::open(api, id, port, upgrade).await
}
