//! A terminal over a WebSocket (RFC 6455).
//!
//! Three things go on side by side and none waits for another: what the terminal shows goes out
//! as fast as the client takes it, what the client types goes in as fast as the program takes it,
//! and pings tell whether the other side is there. A client that takes nothing holds one record and
//! a socket's buffer; one that types into a program that does not read holds a few frames.

use std::time::Duration;

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    http::HeaderValue,
    response::Response,
};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitSink};
use rclaude_sandbox::agentd::{self, Shown, TerminalFrom};
use rclaude_types::{
    ErrorCode, SessionId, TerminalControl, TerminalFrame, TerminalId,
    agentd::{ProcessState, TerminalInfo},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::AttachQuery;
use crate::{
    api::{Api, events::PROTOCOL, problem::Result, validate::Validate},
    session::manager::terminals::{Attached, reason},
};

/// Bytes of a client's frame: a long paste comes in several.
const MAX_CLIENT_FRAME: usize = 64 << 10;
/// Frames of a client's that may wait for the program to read.
const WAITING_FRAMES: usize = 16;
/// How often the other side is asked whether it is there. More often than elsewhere: whoever comes
/// back from another machine wants the old one to be known as gone.
const PING: Duration = Duration::from_secs(10);
/// A client that takes nothing, or answers no ping, for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to close its side, and what it typed last to arrive.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End(u16, &'static str);

const EXITED: End = End(close_code::NORMAL, "exited");
const STOPPING: End = End(close_code::AWAY, "shutting_down");
const READ_ONLY: End = End(close_code::POLICY, "read_only");
const NONSENSE: End = End(close_code::POLICY, "not a TerminalControl");

/// Takes a place before the terminal and accepts the upgrade. What can be refused is refused
/// before the upgrade, as a problem.
pub(super) async fn open(
    api: Api,
    id: SessionId,
    terminal: TerminalId,
    query: AttachQuery,
    mut upgrade: WebSocketUpgrade,
) -> Result<Response> {
    let from = TerminalFrom { offset: query.offset, writer: query.writer.clone() };
    let attached = api.sessions.attach_terminal(&id, &terminal, query.size(), &from).await?;
    if upgrade.requested_protocols().any(|protocol| protocol == PROTOCOL) {
        upgrade.set_selected_protocol(HeaderValue::from_static(PROTOCOL));
    }
    let upgrade = upgrade.max_message_size(MAX_CLIENT_FRAME).max_frame_size(MAX_CLIENT_FRAME);
    let tracked = api.tasks.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        let (sink, client) = socket.split();
        let place = Place { api, id, attached, sink, has_begun: false };
        Box::pin(run(place, query, client)).await;
        drop(tracked);
    }))
}

/// One client's place before a terminal.
struct Place {
    api: Api,
    id: SessionId,
    attached: Attached,
    sink: SplitSink<WebSocket, Message>,
    /// It was told where it begins.
    has_begun: bool,
}

/// What a step came to.
enum Step {
    Go,
    /// The client is gone: there is nobody to tell anything.
    Gone,
    End(End),
}

async fn run(
    mut place: Place,
    query: AttachQuery,
    mut client: futures::stream::SplitStream<WebSocket>,
) {
    let stopping = place.api.stopping.clone();
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    // The first view says where in what it types the client is.
    let Some(Shown::View(view)) = place.attached.next().await else {
        let end = place.gone().await;
        return place.close(end).await;
    };
    let input_offset = view.input_offset;
    if !place.show(Shown::View(view)).await {
        return;
    }
    let (keys, typed) = mpsc::channel::<Bytes>(WAITING_FRAMES);
    let writer = query.writer.clone().map(|writer| (writer, input_offset));
    let mut typing = Box::pin(place.attached.type_in(writer, ReceiverStream::new(typed).map(Ok)));
    let mut is_typing = true;
    let end = loop {
        let has_room = keys.capacity() > 0 || !is_typing;
        let step = tokio::select! {
            shown = place.attached.next() => match shown {
                Some(Shown::End(info)) => {
                    place.exited(&info).await;
                    Step::End(EXITED)
                }
                Some(shown) => place.step(shown).await,
                None => Step::End(place.gone().await),
            },
            message = client.next(), if has_room => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(_) | Message::Text(_))) if query.read_only => {
                        Step::End(READ_ONLY)
                    }
                    Some(Ok(Message::Binary(bytes))) => {
                        // What is typed into a terminal that is over goes nowhere.
                        let _over = keys.try_send(bytes);
                        Step::Go
                    }
                    Some(Ok(Message::Text(text))) => place.control(&text).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Step::Go,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => Step::Gone,
                }
            }
            // Looks again whether there is room.
            _ = keys.reserve(), if !has_room => Step::Go,
            typed = &mut typing, if is_typing => {
                is_typing = false;
                match typed {
                    Err(error) if !is_over(&error) => Step::End(place.gone().await),
                    // The terminal's end is told of above.
                    _ => Step::Go,
                }
            }
            _ = pings.tick() => {
                // One whose keys wait for a program to read is not heard, and not forgotten.
                let is_there = heard.elapsed() <= PATIENCE || !has_room;
                if is_there && place.send(Message::Ping(Bytes::new())).await {
                    Step::Go
                } else {
                    Step::Gone
                }
            }
            () = stopping.cancelled() => Step::End(STOPPING),
        };
        match step {
            Step::Go => {}
            Step::Gone => break None,
            Step::End(end) => break Some(end),
        }
    };
    // What was typed before the client left still goes in.
    drop(keys);
    if is_typing && end != Some(EXITED) {
        let _late = timeout(FAREWELL, &mut typing).await;
    }
    if let Some(end) = end {
        place.close(end).await;
        // What the client still says is read to its end: bytes left unread make the kernel reset
        // the connection, and the client may lose the reason with it.
        let _ = timeout(FAREWELL, client.for_each(async |_| ())).await;
    }
}

impl Place {
    async fn step(&mut self, shown: Shown) -> Step {
        if self.show(shown).await { Step::Go } else { Step::Gone }
    }

    /// Shows the client what the terminal shows; false if it is gone.
    async fn show(&mut self, shown: Shown) -> bool {
        let message = match shown {
            Shown::Snapshot(bytes) | Shown::Bytes { bytes, .. } => Message::Binary(bytes),
            Shown::View(view) if self.has_begun => text(&TerminalFrame::Snapshot(*view)),
            Shown::View(view) => {
                self.has_begun = true;
                text(&TerminalFrame::Attached(*view))
            }
            Shown::Resized(size) => text(&TerminalFrame::Resized { size }),
            Shown::End(_) => return true,
        };
        self.send(message).await
    }

    async fn exited(&mut self, info: &TerminalInfo) {
        let (code, signal) = match info.state {
            ProcessState::Exited { code, signal, .. } => (code, signal),
            ProcessState::Running { .. } | ProcessState::Lost => (None, None),
        };
        let frame = TerminalFrame::Exited { code, signal, reason: reason(info.state) };
        self.send(text(&frame)).await;
    }

    /// Does what the client asks for.
    async fn control(&self, text: &str) -> Step {
        match serde_json::from_str(text) {
            Ok(TerminalControl::Resize { size }) if size.validate().is_ok() => {
                match timeout(PATIENCE, self.attached.resize(size)).await {
                    Ok(Ok(())) => Step::Go,
                    // The way to the sandbox is broken, which the next record tells.
                    Ok(Err(_)) | Err(_) => Step::Go,
                }
            }
            _ => Step::End(NONSENSE),
        }
    }

    /// Why the sandbox cannot be reached.
    async fn gone(&self) -> End {
        match self.api.sessions.why_gone(&self.id).await {
            "sandbox_unavailable" => End(close_code::ERROR, "sandbox_unavailable"),
            word => End(close_code::NORMAL, word),
        }
    }

    async fn send(&mut self, message: Message) -> bool {
        matches!(timeout(PATIENCE, self.sink.send(message)).await, Ok(Ok(())))
    }

    async fn close(&mut self, End(code, reason): End) {
        let frame = CloseFrame { code, reason: reason.into() };
        self.send(Message::Close(Some(frame))).await;
    }
}

/// Whether typing ended because the terminal is over.
fn is_over(error: &agentd::Error) -> bool {
    error.problem().is_some_and(|problem| problem.code == ErrorCode::Conflict)
}

fn text(frame: &TerminalFrame) -> Message {
    Message::text(serde_json::to_string(frame).unwrap_or_default())
}
