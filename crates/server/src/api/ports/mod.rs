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
use rclaude_types::{Page, Port};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InPort, InSession},
    problem::{Refusal, Result},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(connect))
}

/// Lists the TCP ports on which programs in the session listen.
///
/// A paused session wakes for it.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/ports",
    operation_id = "list_ports",
    tag = "ports",
    responses((status = 200, description = "All ports, by number, on one page.", body = Page<Port>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Page<Port>>> {
    let data = api.sessions.ports(&id).await?;
    Ok(Answer(Page { data, next_cursor: None }))
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
