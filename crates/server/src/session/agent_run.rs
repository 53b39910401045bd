//! Reading the agent's process and feeding it.

use std::time::{Duration, Instant};

use futures::StreamExt;
use rclaude_sandbox::agentd::{self, Output, OutputFrom};
use rclaude_store::{agent as agent_rows, approval, session, turn};
use rclaude_types::{
    Approval, ApprovalId, ApprovalState, EventBody, ExecId, SessionId, Timestamp, TurnId,
    agentd::{ProcessInfo, ProcessState},
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    actor::{Actor, TickError},
    engine::Engine,
    feeder::{Feeder, Mouth},
    run_state::{Digest, Entry, RunState, digest},
};
use crate::agent::{self, Ask, Signal};

/// Output taken into one transaction, in bytes.
const BATCH: usize = 1 << 20;
/// Pieces of output that may wait for a transaction.
const WAITING: usize = 64;

/// A process of the agent that is being read.
#[derive(Debug)]
pub(super) struct AgentRun {
    pub(super) exec: ExecId,
    pub(super) state: RunState,
    /// Unread output, as the daemon sends it.
    output: mpsc::Receiver<Result<Output, agentd::Error>>,
    /// A piece that arrived while the actor waited.
    first: Option<Result<Output, agentd::Error>>,
    /// Standard error, up to the end of the last whole line.
    stderr: u64,
    /// An unfinished line of standard error.
    stderr_line: Vec<u8>,
    feeder: Feeder,
    /// The turn it was last reminded to stop, and when.
    reminded: Option<(TurnId, Instant)>,
}

impl AgentRun {
    /// Reads a process from where it was read up to, and feeds it what is stored for it.
    pub(super) fn follow(engine: &Engine, mouth: Mouth, state: RunState, stderr: u64) -> Self {
        let (sender, output) = mpsc::channel(WAITING);
        let (exec, client) = (mouth.exec.clone(), mouth.client.clone());
        let id = exec.clone();
        let from = OutputFrom { stdout: state.translator.offset(), stderr, follow: true };
        engine.tracker.spawn(async move {
            let pump = async {
                let mut stream = match client.output(&id, from).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
                while let Some(piece) = stream.next().await {
                    if sender.send(piece).await.is_err() {
                        return;
                    }
                }
            };
            // Ends with the actor's interest as well.
            tokio::select! { () = pump => {}, () = sender.closed() => {} }
        });
        let feeder = Feeder::start(&engine.tracker, engine.store.clone(), mouth);
        let (first, stderr_line, reminded) = (None, Vec::new(), None);
        Self { exec, state, output, first, stderr, stderr_line, feeder, reminded }
    }

    /// Something may have been stored for it.
    pub(super) fn feed(&self) {
        self.feeder.more();
    }

    /// Whether to remind it now that its turn is to stop: once it has begun, then every so often.
    pub(super) fn remind(&mut self, every: Duration) -> bool {
        let turn = self.state.turn.as_ref().filter(|_| self.state.taken);
        let Some(turn) = turn else { return false };
        let lately = |(of, at): &(TurnId, Instant)| of == turn && at.elapsed() < every;
        if self.reminded.as_ref().is_some_and(lately) {
            return false;
        }
        self.reminded = Some((turn.clone(), Instant::now()));
        true
    }

    /// Until output arrives.
    pub(super) async fn arrived(&mut self) {
        if self.first.is_none() {
            match self.output.recv().await {
                Some(output) => self.first = Some(output),
                // The reader ended without a last word: only the end of the link does that.
                None => std::future::pending().await,
            }
        }
    }

    /// What has arrived, up to a transaction's worth.
    pub(super) fn take(&mut self) -> Vec<Result<Output, agentd::Error>> {
        let mut taken: Vec<_> = self.first.take().into_iter().collect();
        let size = |piece: &Result<Output, agentd::Error>| match piece {
            Ok(Output::Stdout { bytes, .. } | Output::Stderr { bytes, .. }) => bytes.len(),
            _ => 0,
        };
        let mut total: usize = taken.iter().map(size).sum();
        while total < BATCH
            && let Ok(piece) = self.output.try_recv()
        {
            total += size(&piece);
            taken.push(piece);
        }
        taken
    }

    /// Whether output waits to be taken.
    pub(super) fn has_output(&self) -> bool {
        self.first.is_some() || !self.output.is_empty()
    }

    /// What is stored of the process: how far it was read, and the state there.
    pub(super) fn stored(&self) -> Progress {
        Progress {
            exec: self.exec.clone(),
            stdout: self.state.translator.offset(),
            stderr: self.stderr,
            state: self.state.to_json(),
        }
    }

    /// Takes a piece of standard error; whole lines are handed to `line`.
    fn stderr(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        /// Longer lines are taken in pieces.
        const LONGEST: usize = 64 * 1024;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.stderr_line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.stderr_line.len() > LONGEST {
                let whole = std::mem::take(&mut self.stderr_line);
                self.stderr += whole.len() as u64;
                line(whole.trim_ascii_end());
            }
        }
    }
}

/// How far a process was read, ready to be stored.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) exec: ExecId,
    pub(super) stdout: u64,
    pub(super) stderr: u64,
    pub(super) state: Value,
}

/// How a process of the agent ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exit {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
}

impl Exit {
    /// Whether it did not end by itself, but with the sandbox it ran in.
    pub(super) const fn is_with_sandbox(self) -> bool {
        self.code.is_none() && self.signal.is_none()
    }

    fn of(info: &ProcessInfo) -> Self {
        match info.state {
            ProcessState::Exited { code, signal, .. } => Self { code, signal },
            // Its daemon ended under it.
            ProcessState::Running { .. } | ProcessState::Lost => Self { code: None, signal: None },
        }
    }
}

impl Actor {
    /// Stores what output means: events, asks, and how far it was read, in one transaction. The
    /// process's end, if the output tells of it, is returned for the caller to act on.
    pub(super) async fn ingest(
        &mut self,
        output: Vec<Result<Output, agentd::Error>>,
    ) -> Result<Option<Exit>, TickError> {
        let Some(run) = &mut self.run else { return Ok(None) };
        let adapter = agent::adapter(self.session.settings.agent);
        let mut signals: Vec<Signal> = Vec::new();
        let mut exit = None;
        for piece in output {
            match piece.map_err(|error| TickError::Link(error.to_string()))? {
                Output::Stdout { bytes, .. } => signals.extend(run.state.translator.feed(&bytes)),
                Output::Stderr { bytes, .. } => {
                    run.stderr(&bytes, |line| {
                        if let Some(signal) = adapter.stderr(line) {
                            gather(&mut signals, signal);
                        }
                    });
                }
                Output::End(info) => {
                    signals.extend(run.state.translator.finish());
                    exit = Some(Exit::of(&info));
                }
            }
        }
        let digest = digest(&mut run.state, signals);
        let (progress, turn) = (run.stored(), run.state.turn.clone());
        self.store_digest(progress, turn, digest).await?;
        Ok(exit)
    }

    async fn store_digest(
        &self,
        progress: Progress,
        turn: Option<TurnId>,
        digest: Digest,
    ) -> Result<(), TickError> {
        let (session, now) = (self.session.id.clone(), self.engine.now());
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let Progress { exec, stdout, stderr, state } = progress;
                // Refused if another process took this one's place: then nothing is written.
                agent_rows::advance(tx, &session, &exec, stdout, stderr, &state).await?;
                let asks_changed = !digest.withdrawn.is_empty();
                let mut asked = false;
                for entry in digest.entries {
                    match entry {
                        Entry::Event(body) => log.push(turn.clone(), body),
                        Entry::Asked(ask) => {
                            let approval =
                                Box::new(approval_of(&session, turn.as_ref(), &ask, now));
                            approval::insert(tx, &approval, &ask.agent_request, &ask.raw).await?;
                            log.push(turn.clone(), EventBody::ApprovalRequested { approval });
                            asked = true;
                        }
                    }
                }
                for request in digest.withdrawn {
                    let row = approval::find_by_agent_request(tx, &session, &request).await?;
                    if let Some(row) = row
                        && approval::withdraw(tx, &row.approval.id, now).await?
                    {
                        let (id, state) = (row.approval.id, ApprovalState::Withdrawn);
                        let body = EventBody::ApprovalResolved { id, state, message: None };
                        log.push(turn.clone(), body);
                    }
                }
                if let Some(name) = digest.agent_session {
                    session::set_agent_session(tx, &session, Some(&name), now).await?;
                }
                for reply in digest.replies {
                    agent_rows::push_input(tx, &session, &exec, &reply).await?;
                }
                if (asked || asks_changed)
                    && let Some(turn) = turn::current(tx, &session).await?
                {
                    let waits = !approval::pending(tx, &session).await?.is_empty();
                    turn::set_awaiting(tx, &turn.turn.id, waits).await?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// Adds what a line of standard error means. Lines that arrive together make one notice, which
/// stops growing at a few pages: the whole is in the process's journal.
fn gather(signals: &mut Vec<Signal>, signal: Signal) {
    const ENOUGH: usize = 8 * 1024;
    const REST: &str = "\n[more lines are not shown]";
    if let Signal::Event(EventBody::Notice { level, code, message }) = &signal
        && let Some(Signal::Event(EventBody::Notice { level: before, code: same, message: text })) =
            signals.last_mut()
        && (level, code) == (before, same)
    {
        if text.len() + message.len() < ENOUGH {
            text.push('\n');
            text.push_str(message);
        } else if !text.ends_with(REST) {
            text.push_str(REST);
        }
        return;
    }
    signals.push(signal);
}

fn approval_of(session: &SessionId, turn: Option<&TurnId>, ask: &Ask, now: Timestamp) -> Approval {
    Approval {
        id: ApprovalId::generate(),
        session: session.clone(),
        turn: turn.cloned(),
        kind: ask.kind,
        state: ApprovalState::Pending,
        tool: ask.tool.clone(),
        tool_call: ask.tool_call.clone(),
        title: ask.title.clone(),
        input: ask.input.clone(),
        reason: ask.reason.clone(),
        questions: ask.questions.clone(),
        can_always: ask.can_always,
        created_at: now,
        resolved_at: None,
    }
}

#[cfg(test)]
mod tests {
    use rclaude_types::NoticeLevel;

    use super::*;

    #[test]
    fn a_flood_on_standard_error_becomes_one_notice_of_bounded_size() {
        let mut signals = Vec::new();
        for number in 0..10_000 {
            let (level, code) = (NoticeLevel::Error, "agent_stderr".to_owned());
            let message = format!("line {number}");
            gather(&mut signals, Signal::Event(EventBody::Notice { level, code, message }));
        }
        let [Signal::Event(EventBody::Notice { message, .. })] = &*signals else {
            panic!("{} signals", signals.len())
        };
        assert!(message.starts_with("line 0\nline 1\n") && message.ends_with("are not shown]"));
        assert!(message.len() < 9 * 1024);
    }
}
