//! A command's output, followed over as many connections as it takes.
//!
//! What was read is counted per stream in bytes; a new connection asks for the rest.

use std::{collections::VecDeque, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{Stream, StreamExt, stream};
use rclaude_types::{ErrorCode, ExecFrame, ExecId, ExecStream};
use serde_json::value::RawValue;

use super::{Client, http};
use crate::exit::Failure;

/// Attempts without a single new frame before we give up: some forty seconds in all.
const ATTEMPTS: u32 = 8;

/// Something a command did.
#[derive(Debug)]
pub(crate) enum ExecLine {
    /// It printed these bytes.
    Output {
        /// Where.
        stream: ExecStream,
        /// What, without what was read before.
        bytes: Vec<u8>,
        /// The frame as it came.
        raw: Box<RawValue>,
    },
    /// Any other frame: it began, it ended, it was lost.
    Other {
        /// The frame.
        frame: ExecFrame,
        /// The same as it came.
        raw: Box<RawValue>,
    },
    /// The connection is gone and will be tried again.
    Lost(String),
}

struct Output {
    client: Client,
    session: String,
    exec: ExecId,
    read: [u64; 2],
    body: Option<reqwest::Response>,
    partial: Vec<u8>,
    ready: VecDeque<ExecLine>,
    attempts: u32,
    ended: bool,
}

/// Follows a command until it ends.
pub(crate) fn exec_output(
    client: &Client,
    session: &str,
    exec: &ExecId,
) -> impl Stream<Item = Result<ExecLine, Failure>> + use<> {
    let output = Output {
        client: client.clone(),
        session: session.to_owned(),
        exec: exec.clone(),
        read: [0, 0],
        body: None,
        partial: Vec::new(),
        ready: VecDeque::new(),
        attempts: 0,
        ended: false,
    };
    stream::unfold(output, async |mut output| {
        let step = output.step().await?;
        output.ended |= step.is_err();
        Some((step, output))
    })
    .boxed()
}

impl Output {
    async fn step(&mut self) -> Option<Result<ExecLine, Failure>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            if self.ended {
                return None;
            }
            let reason = match self.body.as_mut() {
                None => match self.connect().await {
                    Ok(response) => {
                        self.body = Some(response);
                        continue;
                    }
                    Err(Failure::Unreachable { reason, .. }) => reason,
                    Err(Failure::Problem(problem)) if problem.code == ErrorCode::ShuttingDown => {
                        problem.detail
                    }
                    Err(failure) => return Some(Err(failure)),
                },
                Some(response) => match response.chunk().await {
                    Ok(Some(bytes)) => match self.take_in(&bytes) {
                        Ok(()) => continue,
                        Err(failure) => return Some(Err(failure)),
                    },
                    Ok(None) => "the stream ended early".to_owned(),
                    Err(error) => http::chain(&error),
                },
            };
            self.body = None;
            self.partial.clear();
            if self.attempts == ATTEMPTS {
                let url = self.client.url().to_string();
                return Some(Err(Failure::Unreachable { url, reason }));
            }
            tokio::time::sleep(Duration::from_millis(200) * (1 << self.attempts.min(5))).await;
            self.attempts += 1;
            return Some(Ok(ExecLine::Lost(reason)));
        }
    }

    async fn connect(&self) -> Result<reqwest::Response, Failure> {
        let [stdout, stderr] = self.read.map(|offset| offset.to_string());
        let path = ["sessions", &self.session, "execs", self.exec.as_str(), "output"];
        let query = [("stdout", stdout.as_str()), ("stderr", &stderr), ("follow", "true")];
        self.client.stream(self.client.resource(&path, &query), "application/x-ndjson").await
    }

    fn take_in(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                self.take_line(&line)?;
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let strange = |why: &dyn std::fmt::Display| {
            Failure::Failed(format!("the server sent output that cannot be read: {why}"))
        };
        let raw: Box<RawValue> = serde_json::from_slice(line).map_err(|e| strange(&e))?;
        // A problem in the middle of a stream stands where a frame would.
        if let Ok(problem) = serde_json::from_str(raw.get()) {
            return Err(Failure::Problem(problem));
        }
        let frame: ExecFrame = serde_json::from_str(raw.get()).map_err(|e| strange(&e))?;
        self.attempts = 0;
        match frame {
            ExecFrame::Output { stream, offset, data } => {
                let bytes = BASE64_STANDARD.decode(data).map_err(|e| strange(&e))?;
                let read = &mut self.read[usize::from(stream == ExecStream::Stderr)];
                let known = usize::try_from(read.saturating_sub(offset)).unwrap_or(usize::MAX);
                if known < bytes.len() {
                    *read = offset + bytes.len() as u64;
                    let bytes = bytes[known..].to_vec();
                    self.ready.push_back(ExecLine::Output { stream, bytes, raw });
                }
            }
            frame => {
                self.ended |= matches!(frame, ExecFrame::Exited { .. } | ExecFrame::Lost { .. });
                self.ready.push_back(ExecLine::Other { frame, raw });
            }
        }
        Ok(())
    }
}
