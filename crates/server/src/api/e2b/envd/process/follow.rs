//! The stream of what a process prints, until it ends.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::StreamExt;
use rclaude_sandbox::agentd::{Output, OutputFrom, Shown, TerminalFrom};
use rclaude_types::{ExecId, TerminalId, agentd::ProcessState};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::end::End;
use crate::{
    api::e2b::{
        connect::{Code, Error, Result, Sender},
        envd::desk::{Known, Name},
    },
    session::manager::leases::Open,
};

const KILL: i32 = 9;
/// How often a silent stream says that it is there, unless its client asks otherwise.
const KEEP_ALIVE: Duration = Duration::from_secs(90);
/// A day: more is no limit.
const NO_LIMIT: u64 = 24 * 3600 * 1000;

/// What a stream's client asks of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::api::e2b::envd) struct Wishes {
    /// How long it may last.
    pub(in crate::api::e2b::envd) limit: Option<Duration>,
    pub(in crate::api::e2b::envd) keep_alive: Duration,
}

impl Wishes {
    pub(in crate::api::e2b::envd) fn of(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let limit = number("connect-timeout-ms").filter(|millis| (1..NO_LIMIT).contains(millis));
        let seconds = number("keepalive-ping-interval").filter(|seconds| *seconds > 0);
        Self {
            limit: limit.map(Duration::from_millis),
            keep_alive: seconds.map_or(KEEP_ALIVE, |it| Duration::from_secs(it.min(3600))),
        }
    }
}

/// An event of a process, one field each.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    Start { pid: u32 },
    Data(Data),
    End(End),
    Keepalive {},
}

/// Bytes that it printed, in base64.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Data {
    Stdout(String),
    Stderr(String),
    Pty(String),
}

/// The message around an event.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    event: Event,
}

/// What is to be shown of which process.
pub(super) struct Follow {
    pub(super) open: Open,
    pub(super) known: Arc<Known>,
    pub(super) wishes: Wishes,
    /// Whether the process ends when the time is up, and not only the stream.
    pub(super) bound: bool,
}

impl Follow {
    /// Sends events until the process ends, the time is up, nobody listens, or the sandbox is set
    /// aside.
    pub(super) async fn run(self, sender: Sender) -> Result<()> {
        let deadline = self.wishes.limit.map(|limit| Instant::now() + limit);
        let events = Events { sender, keep_alive: self.wishes.keep_alive };
        if !events.send(Event::Start { pid: self.known.pid }).await {
            return Ok(());
        }
        let shown = async {
            match &self.known.name {
                Name::Process(id) => self.process(id, &events).await,
                Name::Terminal(id) => self.terminal(id, &events).await,
            }
        };
        let time_up = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let gone = self.open.gone();
        tokio::select! {
            outcome = shown => outcome,
            () = time_up => {
                if self.bound {
                    self.kill().await;
                }
                let text = "the time for the call is up";
                Err(Error::new(Code::DeadlineExceeded, text))
            }
            () = gone => Err(Error::gone()),
        }
    }

    async fn process(&self, id: &ExecId, events: &Events) -> Result<()> {
        let (stdout, stderr) = self.known.shown();
        let from = OutputFrom { stdout, stderr, follow: true };
        let mut output = self.open.client.output(id, from).await?;
        let (mut stdout, mut stderr) = (stdout, stderr);
        loop {
            let Some(piece) = events.beside(output.next()).await else { return Ok(()) };
            let data = match piece.ok_or_else(Error::gone)?? {
                Output::Stdout { offset, bytes } => {
                    stdout = offset + bytes.len() as u64;
                    Data::Stdout(BASE64_STANDARD.encode(&bytes))
                }
                Output::Stderr { offset, bytes } => {
                    stderr = offset + bytes.len() as u64;
                    Data::Stderr(BASE64_STANDARD.encode(&bytes))
                }
                Output::End(info) => return events.end(info.state).await,
            };
            if !events.send(Event::Data(data)).await {
                return Ok(());
            }
            self.known.show(stdout, stderr);
        }
    }

    async fn terminal(&self, id: &TerminalId, events: &Events) -> Result<()> {
        let from = TerminalFrom { offset: Some(self.known.shown().0), writer: None };
        let mut shown = self.open.client.attach_terminal(id, &from).await?;
        loop {
            let Some(piece) = events.beside(shown.next()).await else { return Ok(()) };
            let (bytes, reached) = match piece.ok_or_else(Error::gone)?? {
                Shown::Snapshot(bytes) => (bytes, None),
                Shown::Bytes { offset, bytes } => {
                    let reached = offset + bytes.len() as u64;
                    (bytes, Some(reached))
                }
                Shown::View(_) | Shown::Resized(_) => continue,
                Shown::End(info) => return events.end(info.state).await,
            };
            if !events.send(Event::Data(Data::Pty(BASE64_STANDARD.encode(&bytes)))).await {
                return Ok(());
            }
            if let Some(reached) = reached {
                self.known.show(reached, 0);
            }
        }
    }

    /// Ends the process. One that has ended meanwhile stays as it is.
    async fn kill(&self) {
        let client = &self.open.client;
        let _over = match &self.known.name {
            Name::Process(id) => client.signal(id, KILL).await,
            Name::Terminal(id) => client.end_terminal(id).await,
        };
    }
}

/// Where a process's events go.
struct Events {
    sender: Sender,
    keep_alive: Duration,
}

impl Events {
    async fn send(&self, event: Event) -> bool {
        self.sender.send(&Told { event }).await
    }

    async fn end(&self, state: ProcessState) -> Result<()> {
        let end = End::of(state).ok_or_else(Error::gone)?;
        self.send(Event::End(end)).await;
        Ok(())
    }

    /// What `next` comes to, saying meanwhile that the stream is there; `None` once nobody listens.
    async fn beside<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        let mut next = std::pin::pin!(next);
        loop {
            tokio::select! {
                biased;
                value = &mut next => return Some(value),
                () = self.sender.closed() => return None,
                () = tokio::time::sleep(self.keep_alive) => {
                    if !self.send(Event::Keepalive {}).await {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_one_field_each() {
        let told = |event| serde_json::to_string(&Told { event }).unwrap();
        assert_eq!(told(Event::Start { pid: 7 }), r#"{"event":{"start":{"pid":7}}}"#);
        let data = Data::Stdout("aGk=".to_owned());
        assert_eq!(told(Event::Data(data)), r#"{"event":{"data":{"stdout":"aGk="}}}"#);
        assert_eq!(told(Event::Keepalive {}), r#"{"event":{"keepalive":{}}}"#);
    }

    #[test]
    fn wishes_that_make_no_sense_are_none() {
        let of = |limit: &'static str, every: &'static str| {
            let pairs = [("connect-timeout-ms", limit), ("keepalive-ping-interval", every)];
            let pairs = pairs.map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), value.parse().unwrap())
            });
            let wishes = Wishes::of(&HeaderMap::from_iter(pairs));
            (wishes.limit, wishes.keep_alive)
        };
        let seconds = Duration::from_secs;
        assert_eq!(of("1500", "50"), (Some(Duration::from_millis(1500)), seconds(50)));
        assert_eq!(of("0", "0"), (None, seconds(90)));
        assert_eq!(of("-1", "x"), (None, seconds(90)));
        assert_eq!(of("99999999999", "50").0, None);
    }
}
