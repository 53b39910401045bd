//! The session's log, in four manners of one endpoint: a page, a page worth waiting for,
//! server-sent events, a WebSocket. All four take the same cursor, the last `seq` seen, so that a
//! reader may change manners or connections and see every entry once.

mod page;
mod socket;
mod sse;

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, header},
    response::Response,
};
use rclaude_types::{Event, Page, Seq};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::{socket::PROTOCOL, sse::frame};
use super::{
    Api,
    extract::{InSession, Query},
    problem::{Refusal, Result},
    stream::{EVENT_STREAM, ServerSentEvent, accepts},
    validate::Validate,
};

/// Events of a page at most.
const MAX_LIMIT: u32 = 1000;
/// Events of a page unless asked otherwise.
const DEFAULT_LIMIT: u32 = 200;
/// Seconds a page may be waited for.
const MAX_WAIT: u32 = 60;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(read))
}

#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The last `seq` seen; 0 for all there is.
    #[serde(default)]
    #[param(value_type = i64, minimum = 0, default = 0, required = false)]
    after: Seq,
    /// Events at most, of a page.
    #[serde(default = "default_limit")]
    #[param(minimum = 1, maximum = 1000, default = 200, required = false)]
    limit: u32,
    /// Seconds to wait for a page that would be empty.
    #[serde(default)]
    #[param(minimum = 0, maximum = 60, default = 0, required = false)]
    wait: u32,
}

const fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

impl Validate for EventsQuery {
    fn validate(&self) -> Result<()> {
        let Self { after, limit, wait } = *self;
        if after < 0 {
            return Err(Refusal::invalid(format!("after: is {after}; must be 0 or more")));
        }
        if !(1..=MAX_LIMIT).contains(&limit) {
            let why = format!("limit: is {limit}; must be from 1 to {MAX_LIMIT}");
            return Err(Refusal::invalid(why));
        }
        if wait > MAX_WAIT {
            return Err(Refusal::invalid(format!("wait: is {wait}; must be from 0 to {MAX_WAIT}")));
        }
        Ok(())
    }
}

/// Reads the session's log, and follows it.
///
/// - As it is: a page of events after `after`; `next_cursor`, if there may be more, is the next
///   `after`. With `wait`, an empty page is waited for.
/// - With `accept: text/event-stream`: all events after `after` (or after `last-event-id`, which
///   goes first), then those to come; each event's id is its `seq`. The stream ends when the
///   session is deleted; an event named `problem` says why it cannot go on.
/// - As a WebSocket: the same, one event to a text frame. It closes with 1000 and the reason
///   `session_deleted` when the session is deleted, with 1001 when the server stops, with 1011
///   and a problem's code when it cannot go on. Clients have nothing to say: frames with content
///   close it with 1008. Browsers pass their token as the subprotocol `rclaude.bearer.<token>`
///   beside `rclaude.v1`.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/events",
    operation_id = "read_events",
    tag = "events",
    params(
        EventsQuery,
        ("last-event-id" = Option<i64>, Header, minimum = 0,
            description = "The last `seq` seen, as a browser's `EventSource` sends it."),
    ),
    responses(
        (status = 101, description = "A WebSocket, one event to a text frame."),
        (status = 200, description = "Events in the manner asked for.", content(
            (Page<Event> = "application/json"),
            (ServerSentEvent = "text/event-stream"),
        )),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    if headers.contains_key(header::UPGRADE) {
        let upgrade = upgrade.map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
        return socket::open(api, id, query.after, upgrade).await;
    }
    if accepts(&headers, EVENT_STREAM) {
        let after = last_event_id(&headers)?.unwrap_or(query.after);
        return sse::open(&api, &id, after).await;
    }
    page::read(&api, &id, query).await
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Seq>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|seq: &Seq| *seq >= 0);
    seq.map(Some).ok_or_else(|| Refusal::invalid("last-event-id: is no `seq` of an event"))
}
