//! An open file: at most one stream from it or to it.

use std::{io, path::PathBuf};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::HeaderValue;
use rclaude_sandbox::agentd::{self, Client, Content, Part};
use rclaude_types::FileEntry;
use tokio::sync::mpsc;

use super::status::{EOF, Result, Status};

/// Pieces that may be on their way to the daemon.
const AHEAD: usize = 4;

/// An open file.
pub(super) struct File {
    /// Its real path.
    pub(super) path: PathBuf,
    pub(super) may_read: bool,
    pub(super) may_write: bool,
    /// All that is written goes to its end.
    pub(super) appends: bool,
    stream: Stream,
}

enum Stream {
    None,
    Reading(Reading),
    Writing(Writing),
}

/// Bytes on their way from the daemon.
struct Reading {
    /// Where the next byte stands.
    at: u64,
    content: Content,
    /// What came already.
    rest: BytesMut,
    /// All has come.
    ended: bool,
}

/// Bytes on their way to the daemon.
struct Writing {
    /// Where the next byte goes.
    at: u64,
    to: mpsc::Sender<Bytes>,
    done: BoxFuture<'static, agentd::Result<FileEntry>>,
}

impl File {
    pub(super) fn new(path: PathBuf, may_read: bool, may_write: bool, appends: bool) -> Self {
        Self { path, may_read, may_write, appends, stream: Stream::None }
    }

    /// Begins to read, so that what may not be read is told when it is opened.
    pub(super) async fn begin_reading(&mut self, daemon: &Client) -> Result<()> {
        self.reading(daemon, 0).await.map(drop)
    }

    /// Up to `length` bytes from `offset` on; fewer only at the end. Behind the end it is an end.
    pub(super) async fn read(
        &mut self,
        daemon: &Client,
        offset: u64,
        length: usize,
    ) -> Result<Bytes> {
        self.finish_writing().await?;
        let behind = matches!(&self.stream, Stream::Reading(it) if it.is_over() && offset > it.at);
        if behind {
            return Err(Status::end());
        }
        let read = self.reading(daemon, offset).await?.take(length).await;
        match &read {
            Ok(data) if data.is_empty() => return Err(Status::end()),
            Ok(_) => {}
            Err(_) => self.stream = Stream::None,
        }
        read
    }

    /// Writes at `offset`.
    pub(super) async fn write(&mut self, daemon: &Client, offset: u64, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if !matches!(&self.stream, Stream::Writing(it) if self.appends || it.at == offset) {
            self.finish_writing().await?;
            let offset = (!self.appends).then_some(offset);
            self.stream = Stream::Writing(Writing::begin(daemon, &self.path, offset));
        }
        let Stream::Writing(writing) = &mut self.stream else { return Ok(()) };
        let written = writing.write(data).await;
        if written.is_err() {
            self.stream = Stream::None;
        }
        written
    }

    /// Waits until what was written is in the file.
    pub(super) async fn finish_writing(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.stream, Stream::None) {
            Stream::Writing(writing) => writing.finish().await,
            other => {
                self.stream = other;
                Ok(())
            }
        }
    }

    /// The stream that reads from `offset` on.
    async fn reading(&mut self, daemon: &Client, offset: u64) -> Result<&mut Reading> {
        if !matches!(&self.stream, Stream::Reading(it) if it.at == offset && !it.is_over()) {
            let range = HeaderValue::try_from(format!("bytes={offset}-")).ok();
            let range = range.filter(|_| offset > 0);
            let content = daemon.read(&self.path, Part { range, only_of: None }).await;
            let content = content.map_err(|error| match Status::from(error) {
                status if status.code == EOF => Status::end(),
                status => status,
            })?;
            let rest = BytesMut::new();
            self.stream = Stream::Reading(Reading { at: offset, content, rest, ended: false });
        }
        match &mut self.stream {
            Stream::Reading(reading) => Ok(reading),
            _ => Err(Status::failure("the file is not being read")),
        }
    }
}

impl Reading {
    fn is_over(&self) -> bool {
        self.ended && self.rest.is_empty()
    }

    async fn take(&mut self, length: usize) -> Result<Bytes> {
        while self.rest.len() < length && !self.ended {
            match self.content.next().await {
                Some(data) => self.rest.extend_from_slice(&data?),
                None => self.ended = true,
            }
        }
        let data = self.rest.split_to(length.min(self.rest.len())).freeze();
        self.at += data.len() as u64;
        Ok(data)
    }
}

impl Writing {
    fn begin(daemon: &Client, path: &std::path::Path, offset: Option<u64>) -> Self {
        let (to, from) = mpsc::channel::<Bytes>(AHEAD);
        let body =
            stream::unfold(from, async |mut from| Some((io::Result::Ok(from.recv().await?), from)));
        let (daemon, path) = (daemon.clone(), path.to_owned());
        let done = async move { daemon.append(&path, body, offset, None, false).await }.boxed();
        Self { at: offset.unwrap_or(0), to, done }
    }

    async fn write(&mut self, data: Bytes) -> Result<()> {
        let length = data.len() as u64;
        // What stands in the way of writing is looked at first.
        tokio::select! {
            biased;
            done = &mut self.done => {
                done?;
                return Err(Status::failure("the sandbox took no more of the file"));
            }
            sent = self.to.send(data) => {
                if sent.is_err() {
                    return Err(Status::failure("the sandbox took no more of the file"));
                }
            }
        }
        self.at += length;
        Ok(())
    }

    async fn finish(self) -> Result<()> {
        drop(self.to);
        self.done.await?;
        Ok(())
    }
}
