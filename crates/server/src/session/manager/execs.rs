//! Commands run in a session from outside.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use rclaude_sandbox::{
    agentd::{self, Output, OutputFrom, OutputStream},
    provider::SandboxRef,
};
use rclaude_store::{exec, sandbox, session};
use rclaude_types::{
    CreateExec, ErrorCode, EventBody, Exec, ExecFrame, ExecId, ExecState, ExecStream, Problem,
    SessionId,
    agentd::{ProcessSpec, ProcessState, Stdin, User},
};

use super::{
    Result, SessionManager,
    problems::{from_daemon, from_store},
};
use crate::session::inside::{WORKSPACE, environment, watch_exec};

/// Commands that a list shows.
const LISTED: u32 = 200;

impl SessionManager {
    /// Starts a command (waking the session if it is paused); the id may be chosen by the caller
    /// so that a repeated start adopts the first.
    pub async fn exec(
        &self,
        id: &SessionId,
        exec: Option<ExecId>,
        request: CreateExec,
    ) -> Result<Exec> {
        let (client, exec, spec) = self.exec_spec(id, exec, &request).await?;
        let start = async { client.start(&exec, &spec).await.map_err(from_daemon) };
        let (started, row) = tokio::join!(start, self.store_exec(id, &exec, request.command));
        self.settle_exec(id, &exec, client, started.map(drop), row).await
    }

    /// The same, and what it prints, in one go.
    pub async fn exec_and_follow(
        &self,
        id: &SessionId,
        exec: Option<ExecId>,
        request: CreateExec,
    ) -> Result<(Exec, BoxStream<'static, Result<ExecFrame>>)> {
        let (client, exec, spec) = self.exec_spec(id, exec, &request).await?;
        let start = async { client.run(&exec, &spec).await.map_err(from_daemon) };
        // The command runs while its row is written; its output waits for the row.
        let (started, row) = tokio::join!(start, self.store_exec(id, &exec, request.command));
        let (started, output) = match started {
            Ok(output) => (Ok(()), Some(output)),
            Err(problem) => (Err(problem), None),
        };
        let row = self.settle_exec(id, &exec, client, started, row).await?;
        let output = output.ok_or_else(|| Problem::new(ErrorCode::Internal, "no output"))?;
        Ok((row, self.frames(id, exec, output)))
    }

    pub(super) async fn exec_spec(
        &self,
        id: &SessionId,
        exec: Option<ExecId>,
        request: &CreateExec,
    ) -> Result<(agentd::Client, ExecId, ProcessSpec)> {
        let client = self.client(id).await?;
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let settings = session::get(&mut conn, id).await.map_err(from_store)?.settings;
        drop(conn);
        if request.root && !settings.allow_root {
            return Err(Problem::new(
                ErrorCode::Forbidden,
                "this session does not allow root; make one with `allow_root` (--allow-root)",
            ));
        }
        let mut env = environment(&settings.env);
        env.extend(request.env.clone());
        let spec = ProcessSpec {
            argv: request.command.clone(),
            env,
            cwd: request.cwd.clone().unwrap_or_else(|| WORKSPACE.to_owned()),
            user: if request.root { User::Root } else { User::Agent },
            stdin: if request.stdin { Stdin::Open } else { Stdin::Closed },
            timeout_seconds: request.timeout_seconds,
            keep: false,
            attended: false,
        };
        Ok((client, exec.unwrap_or_else(ExecId::generate), spec))
    }

    pub(super) async fn store_exec(
        &self,
        id: &SessionId,
        exec: &ExecId,
        command: Vec<String>,
    ) -> Result<Exec> {
        let (session, exec, now) = (id.clone(), exec.clone(), self.engine.now());
        let stored = self
            .engine
            .commit_aside(id, async move |tx, log| {
                let sandbox = sandbox::current(tx, &session).await?.id;
                let new = exec::NewExec { id: exec, session, sandbox, command, at: now };
                let (row, is_new) = exec::insert_or_adopt(tx, &new).await?;
                if is_new {
                    let (id, command) = (new.id, new.command);
                    log.push(None, EventBody::ExecStarted { id, command });
                }
                Ok(row.exec)
            })
            .await;
        stored.map_err(from_store)
    }

    /// Brings the row and the process together: what could not start has ended.
    pub(super) async fn settle_exec(
        &self,
        id: &SessionId,
        exec: &ExecId,
        client: agentd::Client,
        started: Result<()>,
        row: Result<Exec>,
    ) -> Result<Exec> {
        let row = row?;
        match started {
            Ok(()) => {
                // Also of a start that is repeated: we may have ended between the row and the
                // process, and have looked for that in vain since. A second look does no harm.
                if row.state == ExecState::Running {
                    watch_exec(&self.engine, id, client, exec.clone());
                }
                Ok(row)
            }
            Err(problem) => {
                let (exec, now) = (exec.clone(), self.engine.now());
                let ended = self.engine.commit_aside(id, async move |tx, log| {
                    if exec::finish(tx, &exec, None, None, now).await? {
                        let (exit_code, signal) = (None, None);
                        log.push(
                            None,
                            EventBody::ExecEnded { id: exec, exit_code, signal, reason: None },
                        );
                    }
                    Ok(())
                });
                ended.await.map_err(from_store)?;
                Err(problem)
            }
        }
    }

    /// What a command prints, as callers read it.
    fn frames(
        &self,
        session: &SessionId,
        id: ExecId,
        output: OutputStream,
    ) -> BoxStream<'static, Result<ExecFrame>> {
        let started = futures::stream::once(std::future::ready(Ok(ExecFrame::Started { id })));
        let (manager, session) = (self.clone(), session.clone());
        let rest = output.filter_map(move |piece| {
            let (manager, session) = (manager.clone(), session.clone());
            async move { manager.frame(&session, piece).await.transpose() }
        });
        started.chain(rest).boxed()
    }

    async fn frame(
        &self,
        session: &SessionId,
        piece: Result<Output, agentd::Error>,
    ) -> Result<Option<ExecFrame>> {
        Ok(Some(match piece.map_err(from_daemon)? {
            Output::Stdout { offset, bytes } => {
                let data = BASE64.encode(&bytes);
                ExecFrame::Output { stream: ExecStream::Stdout, offset, data }
            }
            Output::Stderr { offset, bytes } => {
                let data = BASE64.encode(&bytes);
                ExecFrame::Output { stream: ExecStream::Stderr, offset, data }
            }
            Output::End(info) => match info.state {
                ProcessState::Exited { code, signal, out_of_memory, .. } => {
                    // Inside a sandbox that is not always to be seen.
                    let killed = signal == Some(libc::SIGKILL);
                    let out_of_memory =
                        out_of_memory || (killed && self.ran_out_of_memory(session).await);
                    ExecFrame::Exited { code, signal, out_of_memory }
                }
                ProcessState::Lost => {
                    ExecFrame::Lost { reason: "its sandbox was stopped while it ran".to_owned() }
                }
                // Asked for what there is so far: the stream ends here.
                ProcessState::Running { .. } => return Ok(None),
            },
        }))
    }

    /// Whether a process of the session was just ended for want of memory.
    async fn ran_out_of_memory(&self, id: &SessionId) -> bool {
        let seen = async {
            let handle = self.engine.live.get(id)?;
            let mut conn = self.engine.store.read().await.ok()?;
            let reference = sandbox::current(&mut conn, id).await.ok()?.provider_ref?;
            let stats = self.engine.provider.stats(&SandboxRef(reference)).await.ok()?;
            Some(handle.starved(stats.oom_kills))
        };
        seen.await.unwrap_or(false)
    }

    /// Commands, newest first.
    pub async fn execs(&self, id: &SessionId) -> Result<Vec<Exec>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let rows = exec::list(&mut conn, id, LISTED).await.map_err(from_store)?;
        Ok(rows.into_iter().map(|row| row.exec).collect())
    }

    /// One command.
    pub async fn get_exec(&self, id: &SessionId, exec: &ExecId) -> Result<Exec> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = exec::get(&mut conn, exec).await.map_err(from_store)?;
        if row.session == *id {
            return Ok(row.exec);
        }
        let detail = format!("there is no command {exec} in this session");
        Err(Problem::new(ErrorCode::ExecNotFound, detail))
    }

    /// What it prints, from these offsets on, until it ends (`follow`) or for now.
    pub async fn exec_output(
        &self,
        id: &SessionId,
        exec: &ExecId,
        stdout: u64,
        stderr: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<ExecFrame>>> {
        self.get_exec(id, exec).await?;
        let client = self.client(id).await?;
        let from = OutputFrom { stdout, stderr, follow };
        let output = client.output(exec, from).await.map_err(from_daemon)?;
        Ok(self.frames(id, exec.clone(), output))
    }

    /// Bytes for its standard input at `offset` (its own count if absent); `close` ends the input.
    pub async fn exec_stdin(
        &self,
        id: &SessionId,
        exec: &ExecId,
        offset: Option<u64>,
        data: Bytes,
        close: bool,
    ) -> Result<u64> {
        self.get_exec(id, exec).await?;
        let client = self.client(id).await?;
        let offset = match offset {
            Some(offset) => offset,
            None => client.process(exec).await.map_err(from_daemon)?.stdin_accepted,
        };
        let stdin = client.stdin(exec, offset, data, close).await.map_err(from_daemon)?;
        Ok(stdin.accepted)
    }

    /// A signal for its process group. One that has ended already is left alone.
    pub async fn exec_signal(&self, id: &SessionId, exec: &ExecId, signal: &str) -> Result<()> {
        let number = signal_number(signal)?;
        if self.get_exec(id, exec).await?.state != ExecState::Running {
            return Ok(());
        }
        let client = self.client(id).await?;
        client.signal(exec, number).await.map_err(from_daemon)
    }
}

fn signal_number(name: &str) -> Result<i32> {
    Ok(match name {
        "INT" => libc::SIGINT,
        "TERM" => libc::SIGTERM,
        "KILL" => libc::SIGKILL,
        "HUP" => libc::SIGHUP,
        "QUIT" => libc::SIGQUIT,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "STOP" => libc::SIGSTOP,
        "CONT" => libc::SIGCONT,
        other => {
            let detail = format!("signal: there is no signal {other:?} here");
            return Err(Problem::new(ErrorCode::InvalidRequest, detail));
        }
    })
}
