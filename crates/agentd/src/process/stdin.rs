//! A process's standard input, written at an offset so that writing again is harmless.

use std::{io, os::fd::OwnedFd};

use rclaude_types::{ErrorCode, agentd::StdinAccepted};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::Process;
use crate::refusal::{Doing, Refusal, Result};

/// The daemon's end of the pipe.
pub(super) type StdinPipe = AsyncFd<OwnedFd>;

/// One request's turn at writing. Others wait until it is dropped.
pub(crate) struct Writer<'a> {
    process: &'a Process,
    pipe: tokio::sync::MutexGuard<'a, Option<StdinPipe>>,
    /// Where the next byte of the request stands.
    at: u64,
}

impl Process {
    /// Begins to write what stands at `offset`.
    pub(crate) async fn write_stdin(&self, offset: u64) -> Result<Writer<'_>> {
        let pipe = self.stdin.lock().await;
        let accepted = self.stdin_accepted.get();
        if offset > accepted {
            return Err(Refusal::Gap(accepted));
        }
        Ok(Writer { process: self, pipe, at: offset })
    }
}

impl Writer<'_> {
    /// Writes what the process does not have yet, waiting while it does not read. Given up
    /// midway, what went in is counted.
    pub(crate) async fn write(&mut self, data: &[u8]) -> Result<()> {
        let accepted = &self.process.stdin_accepted;
        let known = usize::try_from(accepted.get() - self.at).unwrap_or(usize::MAX);
        let mut data = data.get(known..).unwrap_or_default();
        self.at += known.min(data.len() + known) as u64;
        while !data.is_empty() {
            let Some(pipe) = self.pipe.as_ref() else { return Err(closed()) };
            let mut ready = pipe.writable().await.doing(|| "write".to_owned())?;
            match ready.try_io(|pipe| Ok(rustix::io::write(pipe.get_ref(), data)?)) {
                Ok(Ok(written)) => {
                    accepted.set(accepted.get() + written as u64);
                    self.at += written as u64;
                    data = &data[written..];
                }
                Ok(Err(error)) if is_closed(&error) => {
                    *self.pipe = None;
                    return Err(closed());
                }
                Ok(Err(error)) => return Err(Refusal::from_io("write", &error)),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Ends the turn, and with `close` the process's input.
    pub(crate) fn finish(mut self, close: bool) -> StdinAccepted {
        if close {
            *self.pipe = None;
        }
        let accepted = self.process.stdin_accepted.get();
        StdinAccepted { accepted, closed: self.pipe.is_none() }
    }
}

fn is_closed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::PIPE.raw_os_error())
}

fn closed() -> Refusal {
    Refusal::new(ErrorCode::Conflict, "the process's standard input is closed")
}
