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
use tokio_util::sync::CancellationToken;

use crate::api::{Api, problem::Result, stream::KEEP_ALIVE};

/// The subprotocol a client offers beside the one that carries its token: a server must choose
/// one of those offered, and must not repeat a secret.
pub(in crate::api) const PROTOCOL: &str = "rclaude.v1";
/// Bytes of a client's frame. Pings and closes have 125 at most, and nothing else is expected.
const MAX_CLIENT_FRAME: usize = 4096;
/// Bytes gathered before they are written to the socket.
const WRITE_BUFFER: usize = 64 << 10;
/// Frames a client may send between two of our pings.
const MAX_CLIENT_FRAMES: u32 = 100;
/// A client that takes nothing, or answers no ping, for so long is gone.
const PATIENCE: Duration = Duration::from_mins(1);
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
        run(&api.stopping, log, socket).await;
        drop(tracked);
    }))
}

async fn run(stopping: &CancellationToken, mut log: Log, socket: WebSocket) {
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
                None if stopping.is_cancelled() => break STOPPING,
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
            () = stopping.cancelled() => break STOPPING,
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, routing::any};
    use futures::stream;
    use rclaude_types::{ErrorCode, EventBody, Timestamp};
    use tokio::{net::TcpListener, task::JoinSet};
    use tokio_tungstenite::{connect_async, tungstenite};

    use super::*;

    /// Serves one log to whoever connects.
    async fn serve(log: impl Fn() -> Log + Clone + Send + Sync + 'static) -> (String, JoinSet<()>) {
        let handler = async move |upgrade: WebSocketUpgrade| {
            let log = log();
            upgrade
                .write_buffer_size(WRITE_BUFFER)
                .on_upgrade(async move |socket| run(&CancellationToken::new(), log, socket).await)
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let router = Router::new().route("/", any(handler));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (url, server)
    }

    fn event(seq: Seq, text: String) -> Event {
        let body = EventBody::Message {
            id: seq.to_string(),
            role: rclaude_types::Role::Assistant,
            text,
            parent: None,
        };
        Event { seq, at: Timestamp::default(), turn: None, body }
    }

    /// The seqs a client sees, and how its connection is closed.
    async fn seen(url: &str) -> (Vec<Seq>, u16, String) {
        let (mut socket, _) = connect_async(url).await.unwrap();
        let mut seqs = Vec::new();
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                tungstenite::Message::Text(text) => {
                    seqs.push(serde_json::from_str::<Event>(&text).unwrap().seq);
                }
                tungstenite::Message::Close(Some(frame)) => {
                    return (seqs, frame.code.into(), frame.reason.to_string());
                }
                _ => {}
            }
        }
        panic!("the connection was not closed but lost");
    }

    #[tokio::test]
    async fn the_end_of_the_log_is_the_end_of_the_session() {
        let batches = || {
            let batch = |seqs: &[Seq]| Ok(seqs.iter().map(|s| event(*s, "x".into())).collect());
            stream::iter(vec![batch(&[1, 2]), batch(&[3])]).boxed()
        };
        let (url, _server) = serve(batches).await;
        assert_eq!(seen(&url).await, (vec![1, 2, 3], 1000, "session_deleted".to_owned()));
    }

    #[tokio::test]
    async fn a_problem_closes_the_connection_with_its_code() {
        let failing = || {
            let problem = Problem::new(ErrorCode::DiskFull, "no room");
            stream::iter(vec![Ok(vec![event(1, "x".into())]), Err(problem)]).boxed()
        };
        let (url, _server) = serve(failing).await;
        assert_eq!(seen(&url).await, (vec![1], 1011, "disk_full".to_owned()));
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_not_read_ahead_for() {
        const BATCH: usize = 64 << 10;
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let endless = move || {
            let counter = Arc::clone(&counter);
            stream::iter(1..)
                .map(move |seq| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Ok(vec![event(seq, "x".repeat(BATCH))])
                })
                .boxed()
        };
        let (url, _server) = serve(endless).await;
        let (_socket, _) = connect_async(url).await.unwrap();
        // Until the kernel's buffers are full, and not beyond.
        let mut before = usize::MAX;
        while asked.load(Ordering::Relaxed) != before {
            before = asked.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(before * BATCH < 64 << 20, "{before} batches were read for nobody");
    }
}
