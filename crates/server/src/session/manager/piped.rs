//! Commands whose input and output belong to one caller, who is there for as long as they run.
//!
//! They are commands as any others, in the session's list and log; what they printed is forgotten
//! as soon as the caller has it.

use bytes::Bytes;
use futures::StreamExt;
use rclaude_sandbox::agentd::{self, Output, OutputStream};
use rclaude_store::{exec, session};
use rclaude_types::{
    CreateExec, ErrorCode, EventBody, ExecId, SessionId,
    agentd::{ProcessInfo, ProcessState},
};
use tokio::sync::watch;

use super::{
    Result, SessionManager,
    problems::{from_daemon, from_store},
};
use crate::session::{
    inside::{environment, watch_exec},
    live::Viewer,
};

/// A command with its caller.
#[derive(Debug)]
pub(crate) struct Piped {
    output: OutputStream,
    /// Closed to it when the session is set aside: what stands still sends no end.
    link: watch::Receiver<Option<agentd::Client>>,
    line: Line,
    end: End,
    /// The daemon itself sees when the caller leaves.
    attended: bool,
    /// Keeps the session awake.
    _viewer: Viewer,
}

/// Sees to it that a command's end is written, by whoever is there for it.
#[derive(Debug)]
struct End {
    manager: SessionManager,
    session: SessionId,
    line: Line,
    written: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.written {
            let Line { client, exec } = self.line.clone();
            watch_exec(&self.manager.engine, &self.session, client, exec);
        }
    }
}

/// The way to a command that is under way, beside its output.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    client: agentd::Client,
    exec: ExecId,
}

impl Line {
    /// Gives it input at `offset`, waiting while it does not read; `close` ends the input.
    pub(crate) async fn write(&self, offset: u64, data: Bytes, close: bool) -> Result<()> {
        self.client.stdin(&self.exec, offset, data, close).await.map(drop).map_err(from_daemon)
    }

    /// Sends a signal to its process group.
    pub(crate) async fn signal(&self, number: i32) -> Result<()> {
        self.client.signal(&self.exec, number).await.map_err(from_daemon)
    }
}

impl Piped {
    /// What it prints next, or how it ended; `None` once the sandbox is set aside or cannot be
    /// reached.
    pub(crate) async fn next(&mut self) -> Option<Output> {
        tokio::select! {
            output = self.output.next() => output.and_then(Result::ok),
            _ = self.link.wait_for(|link| link.as_ref().is_none_or(agentd::Client::is_closed)) => None,
        }
    }

    /// The way to it beside its output.
    pub(crate) fn line(&self) -> Line {
        self.line.clone()
    }

    /// Leaves it. It is hung up on, as by a terminal that is closed.
    pub(crate) async fn leave(self) {
        if !self.attended {
            // Fails only if it is over.
            let _ = self.line.signal(libc::SIGHUP).await;
        }
    }

    /// Notes that it ended, and has the sandbox forget what it printed.
    pub(crate) async fn finish(mut self, info: &ProcessInfo) -> Result<()> {
        let ProcessState::Exited { code, signal, .. } = info.state else { return Ok(()) };
        let End { manager, session, line, .. } = &self.end;
        let (exec, now) = (line.exec.clone(), manager.engine.now());
        let noted = manager.engine.commit_aside(session, async move |tx, log| {
            if exec::finish(tx, &exec, code, signal, now).await? {
                let (id, exit_code) = (exec, code);
                log.push(None, EventBody::ExecEnded { id, exit_code, signal, reason: None });
            }
            Ok(())
        });
        noted.await.map_err(from_store)?;
        self.end.written = true;
        if let Some(handle) = self.end.manager.engine.live.get(&self.end.session) {
            // It may have been what the session waits for.
            handle.nudge();
        }
        self.line.client.forget(&self.line.exec).await.map_err(from_daemon)
    }
}

impl SessionManager {
    /// Starts a command (waking the session if it is paused) whose caller reads its output as it
    /// comes, and is there for as long as it runs.
    pub(crate) async fn pipe(&self, id: &SessionId, request: CreateExec) -> Result<Piped> {
        let (client, exec, mut spec) = self.exec_spec(id, None, &request).await?;
        let mut attended = true;
        let start = async {
            spec.attended = attended;
            let mut started = client.run(&exec, &spec).await;
            if started.as_ref().is_err_and(is_older) {
                attended = false;
                spec.attended = attended;
                started = client.run(&exec, &spec).await;
            }
            started.map_err(from_daemon)
        };
        let (started, row) = tokio::join!(start, self.store_exec(id, &exec, request.command));
        let output = match started {
            Ok(output) => output,
            Err(problem) => {
                self.settle_exec(id, &exec, client, Err(problem.clone()), row).await?;
                return Err(problem);
            }
        };
        let line = Line { client, exec };
        let (manager, session) = (self.clone(), id.clone());
        let end = End { manager, session, line: line.clone(), written: false };
        row?;
        let handle = self.handle(id).await?;
        let link = handle.link();
        Ok(Piped { output, link, line, end, attended, _viewer: handle.watch() })
    }

    /// The shell of whoever logs into the session.
    pub(crate) async fn shell(&self, id: &SessionId) -> Result<String> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let settings = session::get(&mut conn, id).await.map_err(from_store)?.settings;
        let shell = environment(&settings.env).remove("SHELL");
        Ok(shell.unwrap_or_else(|| "/bin/sh".to_owned()))
    }
}

/// Whether a daemon is older than commands with a caller, and said so.
fn is_older(error: &agentd::Error) -> bool {
    error.problem().is_some_and(|problem| {
        problem.code == ErrorCode::InvalidRequest && problem.detail.contains("`attended`")
    })
}
