//! One TCP connection over a WebSocket (RFC 6455). The two directions go on side by side and
//! neither waits for the other, as TCP's do: whoever sends much before it reads is not stuck.

use std::{io, time::Duration};

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    http::HeaderValue,
    response::Response,
};
use bytes::Bytes;
use futures::{
    SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use rclaude_types::SessionId;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    api::{Api, events::PROTOCOL, problem::Result},
    session::manager::ports::Connected,
};

/// Bytes of a client's frame.
const MAX_CLIENT_FRAME: usize = 1 << 20;
/// Frames of a client's that may wait for the program to read.
const WAITING_FRAMES: usize = 4;
/// How often the other side is asked whether it is there.
const PING: Duration = Duration::from_secs(15);
/// A client that takes nothing, or is silent, for so long is gone.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long a client may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End(u16, &'static str);

const OVER: End = End(close_code::NORMAL, "over");
const STOPPING: End = End(close_code::AWAY, "shutting_down");
const NONSENSE: End = End(close_code::POLICY, "a connection has no text frames");
const BROKEN: End = End(close_code::ERROR, "broken");

/// What goes to the program: bytes, or `None` for the end of the client's side.
type Outgoing = mpsc::Sender<Option<Bytes>>;

/// Connects, and accepts the upgrade. What can be refused is refused before, as a problem.
pub(super) async fn open(
    api: Api,
    id: SessionId,
    port: u16,
    mut upgrade: WebSocketUpgrade,
) -> Result<Response> {
    let (outgoing, taken) = mpsc::channel(WAITING_FRAMES);
    let connected = api.sessions.connect_port(&id, port, until_end(taken)).await?;
    if upgrade.requested_protocols().any(|protocol| protocol == PROTOCOL) {
        upgrade.set_selected_protocol(HeaderValue::from_static(PROTOCOL));
    }
    let upgrade = upgrade.max_message_size(MAX_CLIENT_FRAME).max_frame_size(MAX_CLIENT_FRAME);
    let tracked = api.tasks.token();
    let stopping = api.stopping.clone();
    Ok(upgrade.on_upgrade(async move |socket| {
        let (mut sink, mut client) = socket.split();
        let (ending, ended) = watch::channel(false);
        let end = tokio::select! {
            end = upload(&mut client, outgoing, &ending) => end,
            end = download(connected, &mut sink, ended) => end,
            () = stopping.cancelled() => Some(STOPPING),
        };
        if let Some(End(code, reason)) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            let _gone = timeout(FAREWELL, sink.send(Message::Close(Some(frame)))).await;
            // Bytes left unread would make the kernel reset the connection, and lose the reason.
            let _late = timeout(FAREWELL, client.for_each(async |_| ())).await;
        }
        drop(tracked);
    }))
}

/// The frames as a stream that ends where the client said so, and breaks where it merely went.
fn until_end(
    taken: mpsc::Receiver<Option<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(taken), async |taken| {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Some(bytes)) => Some((Ok(bytes), Some(taken))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
        }
    })
}

/// From the client to the program. Goes on after the client ended its side, to hear that it is
/// there. `None` when it is gone.
async fn upload(
    client: &mut SplitStream<WebSocket>,
    outgoing: Outgoing,
    ending: &watch::Sender<bool>,
) -> Option<End> {
    loop {
        // It answers pings, if it says nothing else.
        let message = timeout(PATIENCE, client.next()).await.ok()?;
        match message?.ok()? {
            Message::Binary(_) if *ending.borrow() => return Some(NONSENSE),
            Message::Binary(bytes) => {
                let is_end = bytes.is_empty();
                // A program that reads no more may yet be read from.
                let _unread = outgoing.send((!is_end).then_some(bytes)).await;
                if is_end {
                    ending.send_replace(true);
                }
            }
            Message::Text(_) => return Some(NONSENSE),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => return None,
        }
    }
}

/// From the program to the client, until both sides have ended. `None` when the client is gone.
async fn download(
    mut connected: Connected,
    sink: &mut SplitSink<WebSocket, Message>,
    mut ended: watch::Receiver<bool>,
) -> Option<End> {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut arrives = true;
    while arrives || !*ended.borrow_and_update() {
        let message = tokio::select! {
            piece = connected.next(), if arrives => match piece {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => Message::Binary(bytes),
                Some(Err(_)) => return Some(BROKEN),
                None => {
                    arrives = false;
                    Message::Binary(Bytes::new())
                }
            },
            _ = ended.changed(), if !arrives => continue,
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        timeout(PATIENCE, sink.send(message)).await.ok()?.ok()?;
    }
    Some(OVER)
}
