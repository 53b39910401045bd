//! The log over a WebSocket (RFC 6455).
//!
//! A reader that does not read holds one batch of events and one socket buffer, and after a while
//! loses its connection; it comes back with the last `seq` it saw. A client has nothing to say
//! here, so frames with content end the connection, and floods of pings do too.

use std::time::Duration;

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    http::HeaderValue,
    response::Response,
};
use futures::{
    Sink, SinkExt, StreamExt,
    stream::{BoxStream, SplitSink},
};
use rclaude_types::{Event, Problem, Seq, SessionId};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::api::{Api, problem::Result, stream::KEEP_ALIVE};

/// The subprotocol a client offers beside the one that carries its token: a server must choose
/// one of those offered, and must not repeat a secret.
const PROTOCOL: &str = "rclaude.v1";
/// Bytes of a client's frame. Pings and closes have 125 at most, and nothing else is expected.
const MAX_CLIENT_FRAME: usize = 4096;
/// Bytes gathered before they are written to the socket.
const WRITE_BUFFER: usize = 64 << 10;
/// Frames a client may send between two of our pings.
const MAX_CLIENT_FRAMES: u32 = 100;
/// A client that takes nothing, or answers no ping, for so long is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);

type Log = BoxStream<'static, Result<Vec<Event>, Problem>>;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End(u16, &'static str);

const DELETED: End = End(close_code::NORMAL, "session_deleted");
const STOPPING: End = End(close_code::AWAY, "shutting_down");
const TALKS: End = End(close_code::POLICY, "this stream goes one way");
const FLOODS: End = End(close_code::POLICY, "too many frames");

/// Accepts the upgrade and follows the log from `after` on. What can be refused is refused before
/// the upgrade, as a problem.
pub(super) async fn open(
    api: Api,
    id: SessionId,
    after: Seq,
    mut upgrade: WebSocketUpgrade,
) -> Result<Response> {
    let log = api.sessions.follow(&id, after).await?;
    if upgrade.requested_protocols().any(|protocol| protocol == PROTOCOL) {
        upgrade.set_selected_protocol(HeaderValue::from_static(PROTOCOL));
    }
    let upgrade = upgrade
        .max_message_size(MAX_CLIENT_FRAME)
        .max_frame_size(MAX_CLIENT_FRAME)
        .write_buffer_size(WRITE_BUFFER);
    let tracked = api.tasks.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        run(&api, log, socket).await;
        drop(tracked);
    }))
}

async fn run(api: &Api, mut log: Log, socket: WebSocket) {
    let (mut sink, mut client) = socket.split();
    let mut pings = interval(KEEP_ALIVE);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut frames = 0;
    let end = loop {
        tokio::select! {
            batch = log.next() => match batch {
                Some(Ok(events)) => {
                    if !send_all(&mut sink, &events).await {
                        return;
                    }
                }
                Some(Err(problem)) => break End(close_code::ERROR, problem.code.as_str()),
                None if api.stopping.is_cancelled() => break STOPPING,
                None => break DELETED,
            },
            message = client.next() => {
                heard = Instant::now();
                frames += 1;
                match message {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) if frames <= MAX_CLIENT_FRAMES => {}
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => break FLOODS,
                    Some(Ok(Message::Text(_) | Message::Binary(_))) => break TALKS,
                    // Gone, or sent what is no WebSocket, or a frame too large.
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                }
            },
            _ = pings.tick() => {
                frames = 0;
                if heard.elapsed() > PATIENCE
                    || !in_time(sink.send(Message::Ping(bytes::Bytes::new()))).await
                {
                    return;
                }
            }
            () = api.stopping.cancelled() => break STOPPING,
        }
    };
    close(&mut sink, end).await;
    // What the client still says is read to its end: bytes left unread make the kernel reset the
    // connection, and the client may lose the reason with it.
    let _ = timeout(FAREWELL, client.for_each(async |_| ())).await;
}

/// Sends a batch, one event to a frame. Frames go to the socket as the write buffer fills, so the
/// whole batch costs few system calls and little memory.
async fn send_all(sink: &mut SplitSink<WebSocket, Message>, events: &[Event]) -> bool {
    for event in events {
        let text = serde_json::to_string(event).unwrap_or_default();
        if !in_time(sink.feed(Message::text(text))).await {
            return false;
        }
    }
    in_time(sink.flush()).await
}

async fn in_time<E>(sending: impl Future<Output = Result<(), E>>) -> bool {
    matches!(timeout(PATIENCE, sending).await, Ok(Ok(())))
}

async fn close<S: Sink<Message> + Unpin>(sink: &mut S, End(code, reason): End) {
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = timeout(PATIENCE, sink.send(Message::Close(Some(frame)))).await;
}
