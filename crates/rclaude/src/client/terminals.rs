//! A terminal, attached to over as many connections as it takes.
//!
//! What was shown is counted in bytes, and so is what was typed; a new connection asks for what
//! comes after the one and is told how much of the other arrived. So nothing is shown twice or left
//! out, and no key is typed twice.

use std::{collections::VecDeque, pin::pin, time::Duration};

use futures::{SinkExt, StreamExt, stream::SplitStream};
use rclaude_types::{
    CreateTerminal, ErrorCode, Page, Terminal, TerminalControl, TerminalFrame, TerminalId,
    TerminalSize, TerminalView,
};
use reqwest::Method;
use tokio::{sync::mpsc, time::Instant};
use tokio_tungstenite::tungstenite::{Bytes, Message, protocol::frame::coding::CloseCode};

use super::{
    Answer, Client, http,
    socket::{self, Broken, Socket},
};
use crate::exit::Failure;

/// Silence after which a connection is given up: the server pings every ten seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After this long without a connection we give up; the terminal goes on without us.
const GIVE_UP_AFTER: Duration = Duration::from_mins(15);
/// Typed bytes that can be sent again.
const REMEMBERED: usize = 1 << 20;
/// Bytes of a frame: the server takes 64 KiB.
const FRAME: usize = 32 << 10;
/// For what was typed last to go out.
const FAREWELL: Duration = Duration::from_secs(2);
/// Frames that wait to be sent.
const WAITING: usize = 64;

impl Client {
    pub(crate) async fn open_terminal(
        &self,
        session: &str,
        id: &TerminalId,
        request: &CreateTerminal,
    ) -> Result<Answer<Terminal>, Failure> {
        let path = ["sessions", session, "terminals", id.as_str()];
        self.send_json(Method::PUT, &path, request).await
    }

    pub(crate) async fn terminals(&self, session: &str) -> Result<Answer<Page<Terminal>>, Failure> {
        self.get(&["sessions", session, "terminals"], &[]).await
    }
}

/// Which terminal, and how.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) session: String,
    pub(crate) terminal: TerminalId,
    pub(crate) read_only: bool,
    /// A name of our own for what we type.
    pub(crate) writer: String,
}

/// What whoever attaches does: typed, resized, left.
#[derive(Debug)]
pub(crate) enum Doing {
    Typed(Vec<u8>),
    Resized(TerminalSize),
    Left,
}

/// What whoever attaches is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// Where it begins: the first time, or anew because too much was missed.
    View(Box<TerminalView>),
    /// To be shown as it is.
    Bytes(Bytes),
    /// The connection is gone and will be made again.
    Lost(String),
    /// It is back.
    Restored,
    /// Typed keys that never arrived are not remembered any more.
    KeysLost,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The program ended.
    Exited { code: Option<i32>, signal: Option<i32>, reason: Option<String> },
    /// We left.
    Left,
    /// The session was set aside.
    Paused,
}

/// Attaches until the program ends or `doing` says to leave. `offset` is where to begin in what
/// the terminal prints; with the screen if absent.
pub(crate) async fn attach(
    client: &Client,
    place: &Place,
    mut size: TerminalSize,
    mut offset: Option<u64>,
    doing: &mut mpsc::Receiver<Doing>,
    tell: &mut impl Teller,
) -> Result<Ending, Failure> {
    let mut typed = Typed::default();
    let mut lost_at: Option<Instant> = None;
    let mut attempts = 0;
    loop {
        let mut made = pin!(connect(client, place, size, offset));
        let connection = loop {
            tokio::select! {
                made = &mut made => break made,
                done = doing.recv() => match done {
                    Some(Doing::Typed(keys)) => typed.push(&keys),
                    Some(Doing::Resized(new)) => size = new,
                    Some(Doing::Left) | None => return Ok(Ending::Left),
                }
            }
        };
        let reason = match connection {
            Ok(socket) => {
                let mut connection =
                    Connection { offset, snapshot_left: 0, is_back: lost_at.is_some(), size };
                let over = connection.run(socket, place, &mut typed, doing, tell).await?;
                offset = connection.offset;
                size = connection.size;
                if !connection.is_back {
                    (lost_at, attempts) = (None, 0);
                }
                match over {
                    Over::For(ending) => return Ok(ending),
                    Over::Lost(reason) => reason,
                }
            }
            Err(Broken::ForGood(failure)) => return Err(failure),
            Err(Broken::ForNow(reason)) => reason,
        };
        let since = *lost_at.get_or_insert_with(Instant::now);
        if since.elapsed() > GIVE_UP_AFTER {
            return Err(Failure::Unreachable { url: client.url().to_string(), reason });
        }
        tell.tell(Told::Lost(reason))?;
        if tell.wants_screen() {
            offset = None;
        }
        let wait =
            LONGEST_WAIT.min(Duration::from_millis(200).saturating_mul(1 << attempts.min(10)));
        attempts += 1;
        let mut waiting = pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                () = &mut waiting => break,
                done = doing.recv() => match done {
                    Some(Doing::Typed(keys)) => typed.push(&keys),
                    Some(Doing::Resized(new)) => size = new,
                    Some(Doing::Left) | None => return Ok(Ending::Left),
                }
            }
        }
    }
}

/// Who is told, and shows it.
pub(crate) trait Teller {
    fn tell(&mut self, told: Told) -> Result<(), Failure>;

    /// Whether a connection that was lost is better taken up with the screen than with the bytes
    /// that were missed.
    fn wants_screen(&self) -> bool;
}

async fn connect(
    client: &Client,
    place: &Place,
    size: TerminalSize,
    offset: Option<u64>,
) -> Result<Socket, Broken> {
    let (rows, cols) = (size.rows.to_string(), size.cols.to_string());
    let offset = offset.map(|offset| offset.to_string());
    let mut query = vec![("writer", place.writer.as_str())];
    query.extend(offset.as_deref().map(|offset| ("offset", offset)));
    if place.read_only {
        query.push(("read_only", "true"));
    } else {
        query.extend([("rows", rows.as_str()), ("cols", &cols)]);
    }
    let path = ["sessions", &place.session, "terminals", place.terminal.as_str(), "attach"];
    match socket::open(client, client.resource(&path, &query)).await {
        // A sandbox that is being brought back, or a server that just came up.
        Err(Broken::ForGood(Failure::Problem(problem)))
            if problem.code == ErrorCode::SandboxUnavailable =>
        {
            Err(Broken::ForNow(problem.detail))
        }
        other => other,
    }
}

/// Why a connection is over.
enum Over {
    For(Ending),
    Lost(String),
}

/// One connection.
struct Connection {
    /// Where the next byte stands; `None` before that is known.
    offset: Option<u64>,
    /// Bytes of a snapshot to come.
    snapshot_left: u64,
    /// It takes the place of one that was lost, which has not been said yet.
    is_back: bool,
    size: TerminalSize,
}

impl Connection {
    async fn run(
        &mut self,
        socket: Socket,
        place: &Place,
        typed: &mut Typed,
        doing: &mut mpsc::Receiver<Doing>,
        tell: &mut impl Teller,
    ) -> Result<Over, Failure> {
        let (mut sink, mut stream) = socket.split();
        let (outgoing, mut queue) = mpsc::channel::<Message>(WAITING);
        // Beside the reading: a server that is busy sending may not take anything for a moment.
        let mut sending = pin!(async move {
            while let Some(message) = queue.recv().await {
                sink.send(message).await?;
            }
            sink.close().await
        });
        let mut has_begun = false;
        let mut heard = Instant::now();
        loop {
            let room = outgoing.capacity();
            if has_begun && !place.read_only && room > 1 {
                for frame in typed.take(room - 1) {
                    // There is room, and the other end is polled below.
                    let _full = outgoing.try_send(Message::Binary(frame));
                }
            }
            let has_room = outgoing.capacity() > 1;
            let mut leaves = false;
            tokio::select! {
                message = receive(&mut stream, heard + SILENCE) => match message.inspect(|_| heard = Instant::now()) {
                    Ok(Message::Binary(bytes)) => self.bytes(bytes, tell)?,
                    Ok(Message::Text(text)) => match serde_json::from_str(&text) {
                        Ok(TerminalFrame::Attached(view)) => {
                            has_begun = true;
                            if self.is_back {
                                self.is_back = false;
                                tell.tell(Told::Restored)?;
                            }
                            if !typed.begin(view.input_offset) {
                                tell.tell(Told::KeysLost)?;
                            }
                            self.view(view, tell)?;
                        }
                        Ok(TerminalFrame::Snapshot(view)) => self.view(view, tell)?,
                        // Ours is as large as our window is, whatever others do.
                        Ok(TerminalFrame::Resized { .. }) => {}
                        Ok(TerminalFrame::Exited { code, signal, reason }) => {
                            return Ok(Over::For(Ending::Exited { code, signal, reason }));
                        }
                        // Of a kind that is newer than we are.
                        Err(_) => {}
                    },
                    Ok(Message::Close(Some(frame))) => match frame.reason.as_str() {
                        "session_paused" => return Ok(Over::For(Ending::Paused)),
                        "session_deleted" => {
                            return Err(Failure::Failed("the session was deleted".to_owned()));
                        }
                        why if frame.code == CloseCode::Policy => {
                            return Err(Failure::Failed(format!("the server hung up: {why}")));
                        }
                        _ if frame.code == CloseCode::Away => {
                            return Ok(Over::Lost("the server is going down".to_owned()));
                        }
                        why => return Ok(Over::Lost(why.to_owned())),
                    },
                    Ok(Message::Close(None)) => {
                        return Ok(Over::Lost("the server closed the connection".to_owned()));
                    }
                    Ok(_) => {}
                    Err(reason) => return Ok(Over::Lost(reason)),
                },
                done = doing.recv(), if has_room => match done {
                    Some(Doing::Typed(keys)) => typed.push(&keys),
                    Some(Doing::Resized(size)) => {
                        self.size = size;
                        if has_begun && !place.read_only {
                            let resize = TerminalControl::Resize { size };
                            let text = serde_json::to_string(&resize).unwrap_or_default();
                            let _full = outgoing.try_send(Message::text(text));
                        }
                    }
                    Some(Doing::Left) | None => leaves = true,
                },
                sent = &mut sending => {
                    let reason = sent.err().map(|error| http::chain(&error)).unwrap_or_default();
                    return Ok(Over::Lost(reason));
                }
                _ = outgoing.reserve(), if !has_room => {}
            }
            if leaves {
                drop(outgoing);
                // What was typed before still goes out, if it can.
                let _late = tokio::time::timeout(FAREWELL, sending).await;
                return Ok(Over::For(Ending::Left));
            }
        }
    }

    fn view(&mut self, view: TerminalView, tell: &mut impl Teller) -> Result<(), Failure> {
        self.offset = Some(view.offset);
        self.snapshot_left = view.snapshot_bytes;
        tell.tell(Told::View(Box::new(view)))
    }

    fn bytes(&mut self, bytes: Bytes, tell: &mut impl Teller) -> Result<(), Failure> {
        let length = bytes.len() as u64;
        let painted = self.snapshot_left.min(length);
        self.snapshot_left -= painted;
        if let Some(offset) = &mut self.offset {
            *offset += length - painted;
        }
        tell.tell(Told::Bytes(bytes))
    }
}

/// The next message, or why there will be none.
async fn receive(stream: &mut SplitStream<Socket>, until: Instant) -> Result<Message, String> {
    match tokio::time::timeout_at(until, stream.next()).await {
        Ok(Some(Ok(message))) => Ok(message),
        Ok(Some(Err(error))) => Err(http::chain(&error)),
        Ok(None) => Err("the server closed the connection".to_owned()),
        Err(_) => Err("the server fell silent".to_owned()),
    }
}

/// What was typed, kept for as long as it may have to be sent again.
#[derive(Debug, Default)]
struct Typed {
    /// Offset of the first byte in `bytes`.
    start: u64,
    bytes: VecDeque<u8>,
    /// Offset of the next byte to send.
    sent: u64,
}

impl Typed {
    fn push(&mut self, keys: &[u8]) {
        self.bytes.extend(keys);
        let surplus = self.bytes.len().saturating_sub(REMEMBERED);
        self.bytes.drain(..surplus);
        self.start += surplus as u64;
    }

    /// A new connection: so much has arrived. False if what comes next is not remembered any more.
    fn begin(&mut self, arrived: u64) -> bool {
        self.sent = arrived.clamp(self.start, self.start + self.bytes.len() as u64);
        arrived >= self.start
    }

    /// What is to be sent, in at most so many frames.
    fn take(&mut self, frames: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while taken.len() < frames {
            let from =
                usize::try_from(self.sent.max(self.start) - self.start).unwrap_or(usize::MAX);
            let frame: Vec<u8> = self.bytes.iter().skip(from).take(FRAME).copied().collect();
            if frame.is_empty() {
                break;
            }
            self.sent = self.start + (from + frame.len()) as u64;
            taken.push(frame.into());
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frames: Vec<Bytes>) -> String {
        String::from_utf8(frames.concat()).unwrap()
    }

    #[test]
    fn what_did_not_arrive_is_sent_again_and_what_did_is_not() {
        let mut typed = Typed::default();
        typed.push(b"hello ");
        assert!(typed.begin(0));
        assert_eq!(text(typed.take(9)), "hello ");
        typed.push(b"world");
        assert_eq!(text(typed.take(9)), "world");
        assert!(typed.take(9).is_empty());
        assert!(typed.begin(4));
        assert_eq!(text(typed.take(9)), "o world");
        assert!(typed.begin(11));
        assert!(typed.take(9).is_empty());
    }

    #[test]
    fn a_flood_of_keys_is_sent_in_frames_and_forgotten_from_its_beginning() {
        let mut typed = Typed::default();
        typed.push(&vec![b'x'; REMEMBERED]);
        typed.push(b"the end");
        assert!(!typed.begin(0), "the first seven are gone");
        let frames = typed.take(usize::MAX);
        assert!(frames.iter().all(|frame| frame.len() <= FRAME));
        let all = text(frames);
        assert_eq!((all.len(), &all[all.len() - 9..]), (REMEMBERED, "xxthe end"));
        assert!(typed.begin(7) && typed.take(1).len() == 1);
    }
}
