//! Terminals in a session, through its daemon.
//!
//! The daemon is the only one that knows of them: what a terminal printed is on the sandbox's
//! disk, beside what its programs did there, and shares its fate.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use rclaude_sandbox::agentd::{self, Shown, TerminalFrom, TerminalStream};
use rclaude_store::session;
use rclaude_types::{
    CreateTerminal, Desired, ErrorCode, Problem, SessionId, Terminal, TerminalId, TerminalSize,
    TerminalState,
    agentd::{ProcessState, TerminalInfo, TerminalSpec, User},
};
use tokio::sync::watch;

use super::{
    Result, SessionManager,
    problems::{from_daemon, from_store},
};
use crate::session::{
    inside::{WORKSPACE, environment},
    live::Viewer,
};

/// Why a terminal is lost.
const STOPPED: &str = "its sandbox was stopped while it ran";

/// Somebody's place before a terminal.
#[derive(Debug)]
pub(crate) struct Attached {
    /// What the terminal shows.
    shown: TerminalStream,
    /// Closed to it when the session is set aside: what stands still sends no end.
    link: watch::Receiver<Option<agentd::Client>>,
    client: agentd::Client,
    terminal: TerminalId,
    /// Keeps the session awake.
    _viewer: Viewer,
}

/// The way to a terminal, beside what it shows.
#[derive(Debug)]
pub(crate) struct TerminalLine {
    client: agentd::Client,
    terminal: TerminalId,
}

impl TerminalLine {
    /// Makes the terminal so large. One that has ended meanwhile stays as it was.
    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<()> {
        unless_over(self.client.resize_terminal(&self.terminal, size).await.map_err(known))
    }

    /// Ends the terminal's program, as closing a window does. Returns when it is over.
    pub(crate) async fn end(&self) -> Result<()> {
        self.client.end_terminal(&self.terminal).await.map_err(known)
    }
}

impl Attached {
    /// What the terminal shows next; `None` once the sandbox is set aside or cannot be reached.
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        tokio::select! {
            shown = self.shown.next() => shown.and_then(Result::ok),
            _ = self.link.wait_for(|link| link.as_ref().is_none_or(agentd::Client::is_closed)) => None,
        }
    }

    /// Types what comes until it ends.
    pub(crate) fn type_in<Keys>(
        &self,
        writer: Option<(String, u64)>,
        keys: Keys,
    ) -> impl Future<Output = Result<(), agentd::Error>> + use<Keys>
    where
        Keys: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let (client, terminal) = (self.client.clone(), self.terminal.clone());
        async move {
            let writer = writer.as_ref().map(|(name, offset)| (name.as_str(), *offset));
            client.type_in(&terminal, writer, keys).await.map(drop)
        }
    }

    /// The way to the terminal beside what it shows.
    pub(crate) fn line(&self) -> TerminalLine {
        TerminalLine { client: self.client.clone(), terminal: self.terminal.clone() }
    }

    /// Makes the terminal so large. One that has ended meanwhile stays as it was.
    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<()> {
        unless_over(self.client.resize_terminal(&self.terminal, size).await.map_err(known))
    }
}

impl SessionManager {
    /// Opens a terminal (waking the session if it is paused); the id may be chosen by the caller
    /// so that a repeated request adopts the first.
    pub async fn open_terminal(
        &self,
        id: &SessionId,
        terminal: Option<TerminalId>,
        request: CreateTerminal,
    ) -> Result<Terminal> {
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
        // Lines and corners as the characters they are: those of the VT100's second set would be
        // letters in a screen that is painted anew.
        env.entry("NCURSES_NO_UTF8_ACS".to_owned()).or_insert_with(|| "1".to_owned());
        env.entry("COLORTERM".to_owned()).or_insert_with(|| "truecolor".to_owned());
        env.extend(request.env);
        let spec = TerminalSpec {
            argv: request.command,
            env,
            cwd: request.cwd.unwrap_or_else(|| WORKSPACE.to_owned()),
            user: if request.root { User::Root } else { User::Agent },
            size: request.size,
        };
        let terminal = terminal.unwrap_or_else(TerminalId::generate);
        client.open_terminal(&terminal, &spec).await.map(shown).map_err(known)
    }

    /// Terminals that run and the last that ended, newest first.
    pub async fn terminals(&self, id: &SessionId) -> Result<Vec<Terminal>> {
        let client = self.client(id).await?;
        let mut terminals = client.terminals().await.map_err(known)?;
        terminals.reverse();
        Ok(terminals.into_iter().map(shown).collect())
    }

    /// One terminal.
    pub async fn get_terminal(&self, id: &SessionId, terminal: &TerminalId) -> Result<Terminal> {
        let client = self.client(id).await?;
        client.terminal(terminal).await.map(shown).map_err(known)
    }

    /// Ends a terminal's program; returns when it is over.
    pub async fn end_terminal(&self, id: &SessionId, terminal: &TerminalId) -> Result<()> {
        let client = self.client(id).await?;
        client.end_terminal(terminal).await.map_err(known)
    }

    /// Makes a terminal so large.
    pub async fn resize_terminal(
        &self,
        id: &SessionId,
        terminal: &TerminalId,
        size: TerminalSize,
    ) -> Result<()> {
        let client = self.client(id).await?;
        client.resize_terminal(terminal, size).await.map_err(known)
    }

    /// Takes a place before a terminal, first making it as large as the place.
    pub(crate) async fn attach_terminal(
        &self,
        id: &SessionId,
        terminal: &TerminalId,
        size: Option<TerminalSize>,
        from: &TerminalFrom,
    ) -> Result<Attached> {
        let client = self.client(id).await?;
        if let Some(size) = size {
            unless_over(client.resize_terminal(terminal, size).await.map_err(known))?;
        }
        let shown = client.attach_terminal(terminal, from).await.map_err(known)?;
        let handle = self.handle(id).await?;
        let (link, viewer) = (handle.link(), handle.watch());
        Ok(Attached { shown, link, client, terminal: terminal.clone(), _viewer: viewer })
    }

    /// Why a sandbox cannot be reached any more, as a word: its owner set it aside, or deleted
    /// it, or something broke and it is being brought back.
    pub(crate) async fn why_gone(&self, id: &SessionId) -> &'static str {
        let desired = async {
            let mut conn = self.engine.store.read().await.ok()?;
            Some(session::get(&mut conn, id).await.ok()?.desired)
        };
        match desired.await {
            None | Some(Desired::Running) => "sandbox_unavailable",
            Some(Desired::Deleted) => "session_deleted",
            Some(_) => "session_paused",
        }
    }
}

fn unless_over(resized: Result<()>) -> Result<()> {
    match resized {
        Err(problem) if problem.code == ErrorCode::Conflict => Ok(()),
        other => other,
    }
}

/// A daemon's error, where the daemon may be older than terminals.
fn known(error: agentd::Error) -> Problem {
    let problem = from_daemon(error);
    if problem.code == ErrorCode::NotFound {
        let detail = "the session's sandbox was started by a version without terminals; `rclaude \
                      stop` and `rclaude resume` start it anew";
        return Problem::new(ErrorCode::SandboxUnavailable, detail);
    }
    problem
}

/// A terminal as callers see it.
fn shown(info: TerminalInfo) -> Terminal {
    let (state, exit_code, signal, ended_at) = match info.state {
        ProcessState::Running { .. } => (TerminalState::Running, None, None, None),
        ProcessState::Exited { code, signal, at, .. } => {
            (TerminalState::Exited, code, signal, Some(at))
        }
        ProcessState::Lost => (TerminalState::Lost, None, None, None),
    };
    Terminal {
        id: info.id,
        command: info.argv,
        state,
        exit_code,
        signal,
        reason: reason(info.state),
        size: info.size,
        title: info.title,
        viewers: info.viewers,
        first_offset: info.first_offset,
        offset: info.offset,
        started_at: info.started_at,
        printed_at: info.printed_at,
        ended_at,
    }
}

/// Why a terminal ended, if not by itself.
pub(crate) fn reason(state: ProcessState) -> Option<String> {
    (state == ProcessState::Lost).then(|| STOPPED.to_owned())
}
