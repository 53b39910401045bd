//! Terminals: open, attach, type, resize, end.

use std::{
    fmt::Write as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use http::{HeaderMap, Method};
use hyper::body::{Body as _, Incoming};
use rclaude_types::{
    TerminalId, TerminalSize, TerminalView,
    agentd::{
        StdinAccepted, TerminalHeader, TerminalInfo, TerminalKind, TerminalList, TerminalSpec,
    },
};

use super::{
    Client, Error, Result,
    connection::{empty, json_body},
    files::streamed,
};

/// The most bytes a snapshot may have: far more than the largest screen takes.
const MAX_SNAPSHOT: u64 = 64 * 1024 * 1024;

/// From where a terminal is shown, and to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminalFrom {
    /// The offset to go on from, as long as it is kept; the screen as it is if absent.
    pub offset: Option<u64>,
    /// The name under which the viewer types: 1 to 64 printable ASCII characters.
    pub writer: Option<String>,
}

/// What a viewer is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Where it begins: first, and again whenever it had fallen too far behind.
    View(Box<TerminalView>),
    /// Bytes that repaint the screen; as many as the view announced, in pieces.
    Snapshot(Bytes),
    /// What the terminal printed.
    Bytes {
        /// Where the first byte stands.
        offset: u64,
        /// Never empty.
        bytes: Bytes,
    },
    /// Somebody changed the size.
    Resized(TerminalSize),
    /// It is over. Always last.
    End(Box<TerminalInfo>),
}

/// A terminal as it goes on, its bytes without gap or repetition but for views that begin anew,
/// then [`Shown::End`]. A stream that ends in an error is taken up again from the offset reached.
/// Reading slowly slows nobody.
#[derive(Debug)]
pub struct TerminalStream {
    body: Incoming,
    buffer: BytesMut,
    /// Where the next byte must stand; `None` before the first view.
    at: Option<u64>,
    /// Bytes of a snapshot to come.
    painting: u64,
    done: bool,
}

impl Client {
    /// Opens a terminal under a name chosen by the caller. A name already in use returns what it
    /// stands for, whatever the spec. Refused if the program cannot be run, with the reason.
    pub async fn open_terminal(
        &self,
        id: &TerminalId,
        spec: &TerminalSpec,
    ) -> Result<TerminalInfo> {
        self.json(Method::PUT, &format!("/v1/terminals/{id}"), json_body(spec)?).await
    }

    /// All terminals that run, and the last that ended.
    pub async fn terminals(&self) -> Result<Vec<TerminalInfo>> {
        let list: TerminalList = self.json(Method::GET, "/v1/terminals", empty()).await?;
        Ok(list.data)
    }

    /// One terminal.
    pub async fn terminal(&self, id: &TerminalId) -> Result<TerminalInfo> {
        self.json(Method::GET, &format!("/v1/terminals/{id}"), empty()).await
    }

    /// Ends a terminal's program, as closing its window does; returns when it is over. One that
    /// has ended stays as it is.
    pub async fn end_terminal(&self, id: &TerminalId) -> Result<()> {
        self.nothing(Method::DELETE, &format!("/v1/terminals/{id}"), empty()).await
    }

    /// Makes a terminal so large.
    pub async fn resize_terminal(&self, id: &TerminalId, size: TerminalSize) -> Result<()> {
        let path = format!("/v1/terminals/{id}/resize");
        self.nothing(Method::POST, &path, json_body(&size)?).await
    }

    /// Shows a terminal from now on.
    pub async fn attach_terminal(
        &self,
        id: &TerminalId,
        from: &TerminalFrom,
    ) -> Result<TerminalStream> {
        let mut path = format!("/v1/terminals/{id}/attach?");
        if let Some(offset) = from.offset {
            let _infallible = write!(path, "from={offset}&");
        }
        if let Some(writer) = &from.writer {
            let _infallible = write!(path, "writer={}", encode(writer));
        }
        let response = self.send(Method::GET, &path, HeaderMap::new(), empty()).await?;
        Ok(TerminalStream {
            body: response.into_body(),
            buffer: BytesMut::new(),
            at: None,
            painting: 0,
            done: false,
        })
    }

    /// Types what comes until it ends; with a writer's name, `offset` says where that stands in all
    /// that the writer types, and what has been typed already is dropped. Waits while the program
    /// does not read.
    pub async fn type_in(
        &self,
        id: &TerminalId,
        writer: Option<(&str, u64)>,
        keys: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<StdinAccepted> {
        let mut path = format!("/v1/terminals/{id}/input");
        if let Some((writer, offset)) = writer {
            let _infallible = write!(path, "?writer={}&offset={offset}", encode(writer));
        }
        self.json(Method::POST, &path, streamed(keys)).await
    }
}

/// A word as it stands in a query.
fn encode(word: &str) -> String {
    word.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                text.push(char::from(byte));
            }
            other => {
                let _infallible = write!(text, "%{other:02X}");
            }
        }
        text
    })
}

impl TerminalStream {
    /// Takes the next whole record out of the buffer.
    fn record(&mut self) -> Result<Option<Shown>> {
        let Some(header) = self.buffer.first_chunk::<{ TerminalHeader::SIZE }>() else {
            return Ok(None);
        };
        let header = TerminalHeader::decode(*header)
            .ok_or_else(|| Error::Malformed("a record with a strange header".to_owned()))?;
        let length = header.length as usize;
        if self.buffer.len() < TerminalHeader::SIZE + length {
            return Ok(None);
        }
        self.buffer.advance(TerminalHeader::SIZE);
        let bytes = self.buffer.split_to(length).freeze();
        let strange = |what: &str| Error::Malformed(format!("a terminal's {what}"));
        let json = |error: serde_json::Error| Error::Malformed(error.to_string());
        let shown = match (header.kind, self.at) {
            (TerminalKind::View, _) if self.painting == 0 => {
                let view: TerminalView = serde_json::from_slice(&bytes).map_err(json)?;
                if view.snapshot_bytes > MAX_SNAPSHOT || view.offset < self.at.unwrap_or(0) {
                    return Err(strange("view makes no sense"));
                }
                self.at = Some(view.offset);
                self.painting = view.snapshot_bytes;
                Shown::View(Box::new(view))
            }
            (TerminalKind::Snapshot, Some(_)) if bytes.len() as u64 <= self.painting => {
                self.painting -= bytes.len() as u64;
                Shown::Snapshot(bytes)
            }
            (TerminalKind::Bytes, Some(at))
                if self.painting == 0 && header.offset == at && !bytes.is_empty() =>
            {
                self.at = Some(at + u64::from(header.length));
                Shown::Bytes { offset: at, bytes }
            }
            (TerminalKind::Resized, Some(_)) if self.painting == 0 => {
                Shown::Resized(serde_json::from_slice(&bytes).map_err(json)?)
            }
            (TerminalKind::End, Some(_)) if self.painting == 0 => {
                Shown::End(serde_json::from_slice(&bytes).map_err(json)?)
            }
            _ => return Err(strange("records do not join on")),
        };
        Ok(Some(shown))
    }
}

impl Stream for TerminalStream {
    type Item = Result<Shown>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            match self.record() {
                Ok(None) => {}
                Ok(Some(record)) => {
                    self.done = matches!(record, Shown::End(_));
                    return Poll::Ready(Some(Ok(record)));
                }
                Err(error) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    self.done = true;
                    let lost = Error::Lost("the terminal's stream ended before it".to_owned());
                    return Poll::Ready(Some(Err(lost)));
                }
            }
        }
    }
}
