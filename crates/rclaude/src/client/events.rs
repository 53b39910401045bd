//! A session's log, followed over as many connections as it takes.
//!
//! The follower remembers the last entry it handed out and asks for what comes after it each time
//! it connects; whatever arrives a second time is dropped. So every entry is seen once, in order,
//! however often the connection breaks.

use std::{collections::VecDeque, time::Duration};

use futures::{SinkExt, Stream, StreamExt, stream};
use rclaude_types::{Event, EventBody, Problem, Seq, SessionStatus};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

use super::{
    Client, http,
    socket::{self, Broken, Socket},
};
use crate::exit::Failure;

/// Silence after which we ask whether the other side is still there.
const ASK_AFTER: Duration = Duration::from_secs(20);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// After this long without a connection we give up: the session goes on without us anyway.
const GIVE_UP_AFTER: Duration = Duration::from_mins(15);

/// One entry of a log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its position.
    pub(crate) seq: Seq,
    /// As it came: what `--json` prints.
    pub(crate) raw: Box<RawValue>,
    /// As we understand it; `None` for kinds that are newer than we are.
    pub(crate) event: Option<Event>,
}

impl Entry {
    /// Reads what the server sent.
    pub(crate) fn read(raw: Box<RawValue>) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Position {
            seq: Seq,
        }
        let Position { seq } = serde_json::from_str(raw.get()).map_err(|error| {
            Failure::Failed(format!("the server sent an entry without a position: {error}"))
        })?;
        let event = serde_json::from_str(raw.get()).ok();
        Ok(Self { seq, raw, event })
    }

    fn ends_the_log(&self) -> bool {
        matches!(
            self.event.as_ref().map(|event| &event.body),
            Some(EventBody::StatusChanged { status: SessionStatus::Deleted, .. })
        )
    }
}

/// What a follower tells.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The next entry.
    Entry(Box<Entry>),
    /// The connection is gone; another attempt follows after `wait`.
    Lost {
        /// Why.
        reason: String,
        /// How many attempts failed since the last entry.
        attempt: u32,
        /// When the next begins.
        wait: Duration,
    },
    /// The connection is back.
    Restored,
}

struct Follower {
    client: Client,
    session: String,
    after: Seq,
    socket: Option<Socket>,
    ready: VecDeque<Entry>,
    attempts: u32,
    lost_at: Option<Instant>,
    next_attempt: Option<Instant>,
    ended: bool,
}

/// Follows a session's log from `after` on. Ends when the session is deleted; fails when the
/// server refuses, or has been away for a quarter of an hour.
pub(crate) fn follow(
    client: &Client,
    session: &str,
    after: Seq,
) -> impl Stream<Item = Result<Progress, Failure>> + use<> {
    let follower = Follower {
        client: client.clone(),
        session: session.to_owned(),
        after,
        socket: None,
        ready: VecDeque::new(),
        attempts: 0,
        lost_at: None,
        next_attempt: None,
        ended: false,
    };
    stream::unfold(follower, async |mut follower| {
        let step = follower.step().await?;
        follower.ended |= step.is_err();
        Some((step, follower))
    })
}

impl Follower {
    /// The next thing to tell; `None` when there will be nothing more.
    async fn step(&mut self) -> Option<Result<Progress, Failure>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                self.after = entry.seq;
                self.ended |= entry.ends_the_log();
                return Some(Ok(Progress::Entry(Box::new(entry))));
            }
            if self.ended {
                return None;
            }
            match self.socket.take() {
                None => {
                    if let Some(at) = self.next_attempt.take() {
                        tokio::time::sleep_until(at).await;
                    }
                    match self.connect().await {
                        Ok(socket) => {
                            self.socket = Some(socket);
                            if self.lost_at.take().is_some() {
                                return Some(Ok(Progress::Restored));
                            }
                        }
                        Err(Broken::ForGood(failure)) => return Some(Err(failure)),
                        Err(Broken::ForNow(reason)) => return Some(self.lost(reason)),
                    }
                }
                Some(mut socket) => match receive(&mut socket).await {
                    Ok(text) => match self.take_in(&text) {
                        Ok(()) => self.socket = Some(socket),
                        Err(Broken::ForGood(failure)) => return Some(Err(failure)),
                        Err(Broken::ForNow(reason)) => return Some(self.lost(reason)),
                    },
                    Err(Hangup::Deleted) => self.ended = true,
                    Err(Hangup::Broken(reason)) => return Some(self.lost(reason)),
                },
            }
        }
    }

    /// Keeps the new entries of a frame: one entry, or a list of them.
    fn take_in(&mut self, text: &str) -> Result<(), Broken> {
        let entries: Vec<Box<RawValue>> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map_err(|e| Broken::ForNow(e.to_string()))?
        } else if let Ok(problem) = serde_json::from_str::<Problem>(text) {
            return Err(Broken::by(problem));
        } else {
            vec![serde_json::from_str(text).map_err(|e| Broken::ForNow(e.to_string()))?]
        };
        let mut last = self.ready.back().map_or(self.after, |entry| entry.seq);
        for raw in entries {
            let entry = Entry::read(raw).map_err(Broken::ForGood)?;
            if entry.seq > last {
                last = entry.seq;
                self.ready.push_back(entry);
            }
        }
        self.attempts = 0;
        Ok(())
    }

    fn lost(&mut self, reason: String) -> Result<Progress, Failure> {
        let since = *self.lost_at.get_or_insert_with(Instant::now);
        if since.elapsed() > GIVE_UP_AFTER {
            let url = self.client.url().to_string();
            return Err(Failure::Unreachable { url, reason });
        }
        let wait = wait_before(self.attempts);
        self.attempts += 1;
        self.next_attempt = Some(Instant::now() + wait);
        Ok(Progress::Lost { reason, attempt: self.attempts, wait })
    }

    async fn connect(&self) -> Result<Socket, Broken> {
        let after = self.after.to_string();
        let url =
            self.client.resource(&["sessions", &self.session, "events"], &[("after", &after)]);
        socket::open(&self.client, url).await
    }
}

/// Why a connection is over.
enum Hangup {
    /// The session is no more, and everything was said.
    Deleted,
    Broken(String),
}

/// The next frame with text in it, asking after the other side when it is silent for long.
async fn receive(socket: &mut Socket) -> Result<String, Hangup> {
    let broken = |why: &str| Hangup::Broken(why.to_owned());
    let mut asked = false;
    loop {
        match tokio::time::timeout(ASK_AFTER, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => return Ok(text.to_string()),
            Ok(Some(Ok(Message::Close(Some(frame))))) if frame.reason == "session_deleted" => {
                return Err(Hangup::Deleted);
            }
            Ok(Some(Ok(Message::Close(Some(frame))))) if frame.code == CloseCode::Away => {
                return Err(broken("the server is going down"));
            }
            Ok(Some(Ok(Message::Close(_))) | None) => {
                return Err(broken("the server closed the connection"));
            }
            Ok(Some(Ok(_))) => asked = false,
            Ok(Some(Err(error))) => return Err(Hangup::Broken(http::chain(&error))),
            Err(_) if asked => return Err(broken("the server fell silent")),
            Err(_) => {
                asked = true;
                let ping = Message::Ping(tungstenite::Bytes::new());
                let sent = socket.send(ping).await;
                sent.map_err(|error| Hangup::Broken(http::chain(&error)))?;
            }
        }
    }
}

/// Doubling from a fifth of a second: a dropped connection is back before anybody notices, a
/// server that is down is not flooded.
fn wait_before(attempts: u32) -> Duration {
    LONGEST_WAIT.min(Duration::from_millis(200).saturating_mul(1 << attempts.min(10)))
}

#[cfg(test)]
mod tests;
