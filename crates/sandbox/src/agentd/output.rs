//! A process's output as a stream of records.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::Stream;
use hyper::body::{Body as _, Incoming};
use rclaude_types::agentd::{OutputHeader, OutputKind, ProcessInfo};

use super::{Error, Result};

/// From where to read a process's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputFrom {
    /// Offset into standard output.
    pub stdout: u64,
    /// Offset into standard error.
    pub stderr: u64,
    /// Wait for more until the process ends, instead of stopping at what there is.
    pub follow: bool,
}

/// A piece of what a process printed, or how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout {
        /// Where the first byte stands.
        offset: u64,
        /// Never empty.
        bytes: Bytes,
    },
    /// Standard error.
    Stderr {
        /// Where the first byte stands.
        offset: u64,
        /// Never empty.
        bytes: Bytes,
    },
    /// All has been said; the process as it is now. Always last. It is still running only if the
    /// stream was not asked to follow.
    End(Box<ProcessInfo>),
}

/// What a process printed, in the order of each stream without gap or repetition, then
/// [`Output::End`]. A stream that ends in an error is taken up again from the offsets reached.
/// Reading slowly slows nobody: the daemon sends from its journal.
#[derive(Debug)]
pub struct OutputStream {
    body: Incoming,
    buffer: BytesMut,
    /// Where the next byte of each stream must stand.
    stdout: u64,
    stderr: u64,
    done: bool,
}

impl OutputStream {
    pub(super) fn new(body: Incoming, from: OutputFrom) -> Self {
        let OutputFrom { stdout, stderr, follow: _ } = from;
        Self { body, buffer: BytesMut::new(), stdout, stderr, done: false }
    }

    /// Takes the next whole record out of the buffer.
    fn record(&mut self) -> Result<Option<Output>> {
        let Some(header) = self.buffer.first_chunk::<{ OutputHeader::SIZE }>() else {
            return Ok(None);
        };
        let header = OutputHeader::decode(*header)
            .ok_or_else(|| Error::Malformed("a record with a strange header".to_owned()))?;
        let length = header.length as usize;
        if self.buffer.len() < OutputHeader::SIZE + length {
            return Ok(None);
        }
        self.buffer.advance(OutputHeader::SIZE);
        let bytes = self.buffer.split_to(length).freeze();
        let expected = match header.kind {
            OutputKind::Stdout => &mut self.stdout,
            OutputKind::Stderr => &mut self.stderr,
            OutputKind::End => {
                let info = serde_json::from_slice(&bytes)
                    .map_err(|error| Error::Malformed(error.to_string()))?;
                return Ok(Some(Output::End(info)));
            }
        };
        if header.offset != *expected || bytes.is_empty() {
            return Err(Error::Malformed("output that does not join on".to_owned()));
        }
        *expected += u64::from(header.length);
        let offset = header.offset;
        Ok(Some(match header.kind {
            OutputKind::Stdout => Output::Stdout { offset, bytes },
            _ => Output::Stderr { offset, bytes },
        }))
    }
}

impl Stream for OutputStream {
    type Item = Result<Output>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        loop {
            match self.record() {
                Ok(None) => {}
                Ok(Some(record)) => {
                    self.done = matches!(record, Output::End(_));
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
                    let lost = Error::Lost("the output ended before the process".to_owned());
                    return Poll::Ready(Some(Err(lost)));
                }
            }
        }
    }
}
