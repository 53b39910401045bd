//! What the actor runs inside its sandbox: the agent, commands it watches, the diff.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use rclaude_sandbox::agentd::{self, Output, OutputFrom};
use rclaude_store::exec;
use rclaude_types::{
    DiffFormat, DiffStat, EventBody, ExecId, NoticeLevel, SessionDiff,
    agentd::{ProcessSpec, ProcessState, Stdin, User},
};
use uuid::Uuid;

use super::{
    actor::{Actor, TickError},
    engine::Engine,
    link::Link,
    run_state::RunState,
};
use crate::{
    agent::{self, Launch, install::CLAUDE_CODE_IN_SANDBOX},
    repo,
};

/// Where every process starts.
pub(crate) const WORKSPACE: &str = "/workspace";
/// How long the end of a command waits to be written again.
const END_AGAIN: Duration = Duration::from_secs(1);
/// How long whoever asked for a command may take to ask again, if we ended before it was begun.
const UNBORN: Duration = Duration::from_secs(30);
/// How long making a diff may take.
const DIFF_PATIENCE: Duration = Duration::from_mins(1);

/// The environment of every process in a session.
pub(super) fn environment(own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let defaults = [
        ("HOME", "/home/agent"),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "agent"),
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/rclaude/agents/claude-code",
        ),
        ("SHELL", "/bin/bash"),
        ("TERM", "xterm-256color"),
        ("USER", "agent"),
        ("http_proxy", "http://proxy.rclaude:3128"),
        ("https_proxy", "http://proxy.rclaude:3128"),
        ("HTTP_PROXY", "http://proxy.rclaude:3128"),
        ("HTTPS_PROXY", "http://proxy.rclaude:3128"),
        ("no_proxy", "localhost,127.0.0.1,::1,gateway.rclaude"),
        ("NO_PROXY", "localhost,127.0.0.1,::1,gateway.rclaude"),
    ];
    let mut env: BTreeMap<_, _> =
        defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(own.clone());
    env
}

impl Actor {
    pub(super) fn launch(&self, agent_session: Uuid, resume: bool, continues: bool) -> Launch {
        let settings = &self.session.settings;
        Launch {
            binary: format!("{CLAUDE_CODE_IN_SANDBOX}/claude"),
            agent_session,
            resume,
            continues,
            model: settings.model.clone(),
            permission_mode: settings.permission_mode,
            gateway_url: "http://gateway.rclaude".to_owned(),
            token: self.engine.tokens.mint(&self.session.id),
            env: environment(&settings.env),
            append_system_prompt: None,
        }
    }

    /// The agent's process.
    pub(super) fn process(&self, state: &RunState) -> ProcessSpec {
        let adapter = agent::adapter(self.session.settings.agent);
        let launch = self.launch(state.agent_session, state.resumed, state.continues);
        let program = adapter.launch(&launch);
        ProcessSpec {
            argv: program.argv,
            env: program.env,
            cwd: WORKSPACE.to_owned(),
            user: User::Agent,
            stdin: Stdin::Open,
            timeout_seconds: None,
            // Its journal is released when the process's end has been stored.
            keep: true,
            attended: false,
        }
    }

    /// Whether the kernel ended a process of the sandbox for want of memory since we last looked.
    pub(super) async fn ran_out_of_memory(&self) -> bool {
        let stats = self.engine.provider.stats(&self.reference()).await;
        stats.is_ok_and(|stats| self.handle.starved(stats.oom_kills))
    }

    /// How the session's files now differ from where they began; absent where that cannot be
    /// told.
    pub(super) async fn diff_stat(&self) -> Option<DiffStat> {
        let link = self.link.as_ref()?;
        self.session.settings.repository.as_ref()?;
        let base = self.session.base_commit.as_deref();
        match diff(&link.client, base, DiffFormat::Stat).await {
            Ok(diff) => Some(diff.stat),
            Err(why) => {
                tracing::warn!(session.id = %self.session.id, why, "no diff");
                None
            }
        }
    }

    /// Says so when the sandbox's disk is full: nothing is lost, but everything waits.
    pub(super) async fn mind_disk(&mut self) -> Result<(), TickError> {
        let Some(link) = &self.link else { return Ok(()) };
        if !link.due() {
            return Ok(());
        }
        let health = link.client.health().await;
        let full = health.map_err(|error| TickError::Link(error.to_string()))?.journal_full;
        if full && !self.told_full {
            let text = "the disk is full: what the session's processes print waits until there is \
                        room; nothing is lost";
            self.notice(NoticeLevel::Error, "disk_full", text).await?;
        }
        self.told_full = full;
        Ok(())
    }

    /// Follows every command that is under way, to write its end.
    pub(super) async fn watch_execs(&self, link: &Link) -> Result<(), TickError> {
        let mut conn = self.engine.store.read().await?;
        for row in exec::list_running(&mut conn, &self.sandbox.id).await? {
            watch_exec(&self.engine, &self.session.id, link.client.clone(), row.exec.id);
        }
        Ok(())
    }

    /// Writes that the commands under way ended with their sandbox, and why that ended.
    pub(super) async fn lose_execs(&self, why: &str) -> Result<(), TickError> {
        let (sandbox, now) = (self.sandbox.id.clone(), self.engine.now());
        let why = why.to_owned();
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                for row in exec::mark_lost(tx, &sandbox, now).await? {
                    let id = row.exec.id;
                    let reason = Some(why.clone());
                    let ended = EventBody::ExecEnded { id, exit_code: None, signal: None, reason };
                    log.push(None, ended);
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// Writes a command's end once it comes. Ends without a word when the link does: the next link
/// watches anew.
pub(super) fn watch_exec(
    engine: &std::sync::Arc<Engine>,
    session: &rclaude_types::SessionId,
    client: agentd::Client,
    id: ExecId,
) {
    let (task, session) = (engine.clone(), session.clone());
    engine.tracker.spawn(async move {
        let cancel = task.cancel.clone();
        let watch = async {
            let so_far = match client.process(&id).await {
                Err(agentd::Error::Refused(_)) => {
                    tokio::time::sleep(UNBORN).await;
                    client.process(&id).await
                }
                answer => answer,
            };
            let (stdout, stderr) = match so_far {
                Ok(info) => (info.stdout_bytes, info.stderr_bytes),
                Err(agentd::Error::Refused(_)) => {
                    return Some(Err("it was never begun"));
                }
                Err(_) => return None,
            };
            // From the end of the output: only the last record is of interest.
            let from = OutputFrom { stdout, stderr, follow: true };
            let mut output = client.output(&id, from).await.ok()?;
            while let Some(piece) = output.next().await {
                if let Ok(Output::End(info)) = piece {
                    return match info.state {
                        ProcessState::Exited { code, signal, .. } => Some(Ok((code, signal))),
                        ProcessState::Lost => Some(Err("its sandbox stopped")),
                        ProcessState::Running { .. } => None,
                    };
                }
            }
            None
        };
        let ended = cancel.run_until_cancelled(watch).await.flatten();
        let Some(ended) = ended else { return };
        let (exit_code, signal) = ended.unwrap_or_default();
        let now = task.now();
        // Until it is written (the disk may be full): nobody else comes to write it.
        let write = async {
            loop {
                let id = id.clone();
                let written = task
                    .commit_aside(&session, async move |tx, log| {
                        let is_news = match ended {
                            Ok(_) => exec::finish(tx, &id, exit_code, signal, now).await?,
                            Err(_) => exec::lose(tx, &id, now).await?,
                        };
                        if is_news {
                            let reason = ended.err().map(str::to_owned);
                            log.push(None, EventBody::ExecEnded { id, exit_code, signal, reason });
                        }
                        Ok(())
                    })
                    .await;
                let Err(error) = written else {
                    // It may have been what the session waits for.
                    if let Some(handle) = task.live.get(&session) {
                        handle.nudge();
                    }
                    return;
                };
                tracing::warn!(session.id = %session, %error, "a command's end is not written yet");
                tokio::time::sleep(END_AGAIN).await;
            }
        };
        cancel.run_until_cancelled(write).await;
    });
}

/// How a sandbox's workspace differs from `base`, by a script run inside: the host's git never
/// touches what a sandbox can write to.
pub(super) async fn diff(
    client: &agentd::Client,
    base: Option<&str>,
    format: DiffFormat,
) -> Result<SessionDiff, String> {
    let spec = ProcessSpec {
        argv: repo::diff::command(base, format),
        env: environment(&BTreeMap::new()),
        cwd: WORKSPACE.to_owned(),
        user: User::Agent,
        stdin: Stdin::Closed,
        timeout_seconds: Some(60),
        keep: false,
        attended: false,
    };
    let run = async {
        let id = ExecId::generate();
        let mut output = client.run(&id, &spec).await.map_err(|error| error.to_string())?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = output.next().await {
            match piece.map_err(|error| error.to_string())? {
                Output::Stdout { bytes, .. } => stdout.extend_from_slice(&bytes),
                Output::Stderr { bytes, .. } => stderr.extend_from_slice(&bytes),
                Output::End(info) => {
                    let _ = client.forget(&id).await;
                    return match info.state {
                        ProcessState::Exited { code: Some(0), .. } => {
                            repo::diff::parse(&stdout, base, format)
                                .map_err(|_| "git's answer makes no sense".to_owned())
                        }
                        _ => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
                    };
                }
            }
        }
        Err("the sandbox ended meanwhile".to_owned())
    };
    tokio::time::timeout(DIFF_PATIENCE, run)
        .await
        .unwrap_or_else(|_| Err("git took too long".to_owned()))
}
