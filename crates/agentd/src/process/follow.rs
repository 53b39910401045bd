//! One reader of a process's output: a task that reads the journal from its own offsets.

use std::{fs::File, io, os::unix::fs::FileExt, rc::Rc};

use bytes::{BufMut, Bytes, BytesMut};
use rclaude_types::{
    ErrorCode,
    agentd::{MAX_RECORD_BYTES, OutputHeader, OutputKind},
};
use tokio::{sync::mpsc, task::spawn_local};

use super::{Attendance, Process, Stream};
use crate::{
    http::Body,
    refusal::{Refusal, Result},
};

/// How far a reader is in each stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Offsets {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
}

/// The output from `from` as the body of an answer; with `wait` it goes on until the end.
pub(crate) fn follow(process: Rc<Process>, from: Offsets, wait: bool) -> Result<Body> {
    if process.attendance.as_ref().is_some_and(|it| !it.has(from)) {
        let detail = "what it printed there went to whoever started it, and is not kept";
        return Err(Refusal::new(ErrorCode::Conflict, detail));
    }
    read(process, from, wait, false)
}

/// The output, from the beginning to the end, for who attends the process.
pub(crate) fn attend(process: Rc<Process>) -> Result<Body> {
    let attends = process.attendance.as_ref().is_some_and(Attendance::take);
    if attends {
        read(process, Offsets::default(), true, true)
    } else {
        follow(process, Offsets::default(), true)
    }
}

fn read(process: Rc<Process>, from: Offsets, wait: bool, attends: bool) -> Result<Body> {
    let info = process.info();
    if from.stdout > info.stdout_bytes || from.stderr > info.stderr_bytes {
        let detail = format!(
            "the journal ends at byte {} of stdout and {} of stderr",
            info.stdout_bytes, info.stderr_bytes
        );
        return Err(Refusal::new(ErrorCode::Conflict, detail));
    }
    // One piece waits while the last is being sent: that is all a reader costs.
    let (pieces, body) = mpsc::channel(1);
    spawn_local(async move {
        let mut reader = Reader { process, at: from, attends, stdout: None, stderr: None };
        if let Err(error) = reader.run(&pieces, wait).await {
            // A body that ends in an error is cut off, which tells the reader to come again.
            let _gone = pieces.send(Err(error)).await;
        }
        if attends {
            reader.process.leave();
        }
    });
    Ok(Body::Pieces(body))
}

struct Reader {
    process: Rc<Process>,
    at: Offsets,
    /// The process waits for this one.
    attends: bool,
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Reader {
    async fn run(&mut self, to: &mpsc::Sender<io::Result<Bytes>>, wait: bool) -> io::Result<()> {
        let mut changes = self.process.changed.subscribe();
        // What others write to the journal of a process that is over does not prolong reading it.
        let mut last = None;
        loop {
            changes.borrow_and_update();
            if last.is_none() && (!wait || self.process.is_final()) {
                last = Some(self.ends());
            }
            let ends = last.unwrap_or_else(|| self.ends());
            let mut piece = BytesMut::new();
            self.record(&mut piece, Stream::Stdout, ends.stdout)?;
            self.record(&mut piece, Stream::Stderr, ends.stderr)?;
            let caught_up = self.at.stdout >= ends.stdout && self.at.stderr >= ends.stderr;
            let is_end = caught_up && last.is_some();
            if is_end {
                let info = serde_json::to_vec(&self.process.info())?;
                put(&mut piece, OutputKind::End, 0, &info);
            }
            if !piece.is_empty() && to.send(Ok(piece.freeze())).await.is_err() {
                return Ok(());
            }
            if is_end {
                return Ok(());
            }
            if self.attends {
                self.process.has_read(self.at);
            }
            if caught_up {
                tokio::select! {
                    _ = changes.changed() => {}
                    () = to.closed() => return Ok(()),
                }
            }
        }
    }

    fn ends(&self) -> Offsets {
        Offsets { stdout: self.process.stdout_bytes.get(), stderr: self.process.stderr_bytes.get() }
    }

    /// Adds the next record of a stream, if there is more of it.
    fn record(&mut self, piece: &mut BytesMut, stream: Stream, end: u64) -> io::Result<()> {
        let (kind, at, file) = match stream {
            Stream::Stdout => (OutputKind::Stdout, &mut self.at.stdout, &mut self.stdout),
            Stream::Stderr => (OutputKind::Stderr, &mut self.at.stderr, &mut self.stderr),
        };
        let left = end.saturating_sub(*at);
        if left == 0 {
            return Ok(());
        }
        let file = match file {
            Some(file) => file,
            none => none.insert(self.process.journal.open_stream(&self.process.id, stream)?),
        };
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_RECORD_BYTES);
        let start = piece.len();
        piece.resize(start + OutputHeader::SIZE + length, 0);
        file.read_exact_at(&mut piece[start + OutputHeader::SIZE..], *at)?;
        piece[start..start + OutputHeader::SIZE].copy_from_slice(&header(kind, *at, length));
        *at += length as u64;
        Ok(())
    }
}

fn put(piece: &mut BytesMut, kind: OutputKind, offset: u64, bytes: &[u8]) {
    piece.put_slice(&header(kind, offset, bytes.len()));
    piece.put_slice(bytes);
}

fn header(kind: OutputKind, offset: u64, length: usize) -> [u8; OutputHeader::SIZE] {
    let length = u32::try_from(length).expect("a record is at most MAX_RECORD_BYTES");
    OutputHeader { kind, offset, length }.encode()
}
