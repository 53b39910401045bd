//! Clients that follow a session's log, are cut off, and come back from where they were.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::BoxStream};
use rclaude_types::Event;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use super::host::Host;

/// A client that follows one session for as long as this is kept.
pub(super) struct Follower {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Event>>,
    wrong: Mutex<Option<String>>,
    cut: Notify,
    over: AtomicBool,
}

impl Follower {
    /// Every second one uses server-sent events, the others a WebSocket.
    pub(super) fn start(host: Arc<Host>, session: String, number: u8) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(follow(host, session, number % 2 == 1, shared.clone()));
        Self { shared, task }
    }

    /// Something to cut its connection with.
    pub(super) fn scissors(&self) -> Scissors {
        Scissors(self.shared.clone())
    }

    /// All that it was ever shown, or what it was shown that it should not have been.
    pub(super) fn seen(&self) -> Result<Vec<Event>, String> {
        match &*self.shared.wrong.lock().unwrap() {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(self.shared.seen.lock().unwrap().clone()),
        }
    }
}

/// Cuts a follower's connection.
pub(super) struct Scissors(Arc<Shared>);

impl Scissors {
    pub(super) fn cut(&self) {
        self.0.cut.notify_one();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

async fn follow(host: Arc<Host>, session: String, sse: bool, shared: Arc<Shared>) {
    while !shared.over.load(Ordering::Relaxed) {
        let after = shared.seen.lock().unwrap().last().map_or(0, |event| event.seq);
        let connected = if sse {
            events_of_sse(&host, &session, after).await
        } else {
            events_of_socket(&host, &session, after).await
        };
        if let Some(mut events) = connected {
            loop {
                let next = tokio::select! {
                    next = events.next() => next,
                    () = shared.cut.notified() => None,
                };
                let Some(event) = next else { break };
                let mut seen = shared.seen.lock().unwrap();
                let expected = seen.last().map_or(1, |event| event.seq + 1);
                if event.seq != expected {
                    let text = format!("a follower was shown {event:?} where {expected} was due");
                    shared.wrong.lock().unwrap().get_or_insert(text);
                    return;
                }
                seen.push(event);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn events_of_socket(
    host: &Host,
    session: &str,
    after: i64,
) -> Option<BoxStream<'static, Event>> {
    let (url, token) = host.access();
    let url = url.replacen("http", "ws", 1);
    let request = format!("{url}/v1/sessions/{session}/events?after={after}");
    let mut request = request.into_client_request().ok()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (socket, _) = tokio_tungstenite::connect_async(request).await.ok()?;
    let events =
        socket.take_while(|frame| std::future::ready(frame.is_ok())).filter_map(async |frame| {
            match frame {
                Ok(Message::Text(text)) => serde_json::from_str(&text).ok(),
                _ => None,
            }
        });
    Some(events.boxed())
}

async fn events_of_sse(
    host: &Host,
    session: &str,
    after: i64,
) -> Option<BoxStream<'static, Event>> {
    let (url, token) = host.access();
    let answer = crate::platform::client()
        .get(format!("{url}/v1/sessions/{session}/events?after={after}"))
        .bearer_auth(token)
        .header("accept", "text/event-stream")
        .send()
        .await
        .ok()
        .filter(|answer| answer.status().is_success())?;
    let mut bytes = Vec::new();
    let pieces = answer.bytes_stream().take_while(|piece| std::future::ready(piece.is_ok()));
    let events = pieces.flat_map(move |piece| {
        bytes.extend_from_slice(&piece.unwrap());
        let mut whole = Vec::new();
        while let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") {
            let frame: Vec<u8> = bytes.drain(..end + 2).collect();
            let frame = String::from_utf8(frame).unwrap();
            let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
            whole.extend(data.and_then(|data| serde_json::from_str(data).ok()));
        }
        futures::stream::iter(whole)
    });
    Some(events.boxed())
}
