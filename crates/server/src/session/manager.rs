//! What the API calls. Each change is one transaction, one nudge to the session's actor, and an
//! answer at once; what becomes of it is told by the session's log.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;
use rclaude_types::{
    Approval, ApprovalId, CreateExec, CreateSession, CreateTurn, Decision, DiffFormat, Event, Exec,
    ExecFrame, ExecId, FileEntry, Page, Problem, Seq, Session, SessionDiff, SessionId, Turn,
    TurnId, UpdateSession, UsageSummary,
};

/// Result of a manager's call; a problem is ready for its caller to read.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// Finds, makes and steers sessions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SessionManager(#[expect(dead_code, reason = "the engine is being built")] Arc<()>);

/// Which sessions a list wants.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// After this one (the cursor of the page before).
    pub cursor: Option<String>,
    /// At most so many, 1 to 200.
    pub limit: u32,
}

/// A request's `Idempotency-Key` with a digest of the request it came with.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The key, scoped to the caller.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub digest: [u8; 32],
}

#[expect(
    unused_variables,
    clippy::todo,
    clippy::unused_async,
    reason = "the engine is being built"
)]
impl SessionManager {
    /// Makes a session; with the same idempotency key answers with the first one.
    pub async fn create(
        &self,
        request: CreateSession,
        once: Option<Idempotency>,
    ) -> Result<Session> {
        todo!()
    }
    /// A session by id, unique prefix of an id (at least `ses_` + 4), or name.
    pub async fn resolve(&self, reference: &str) -> Result<SessionId> {
        todo!()
    }
    /// As callers see it.
    pub async fn get(&self, id: &SessionId) -> Result<Session> {
        todo!()
    }
    /// A page, newest first.
    pub async fn list(&self, filter: SessionFilter) -> Result<Page<Session>> {
        todo!()
    }
    /// Name, model, permission mode.
    pub async fn update(&self, id: &SessionId, change: UpdateSession) -> Result<Session> {
        todo!()
    }
    /// Ends the session's processes, keeps everything else.
    pub async fn pause(&self, id: &SessionId) -> Result<Session> {
        todo!()
    }
    /// Brings it back.
    pub async fn resume(&self, id: &SessionId) -> Result<Session> {
        todo!()
    }
    /// Ends it and removes its files. Deleting twice is fine.
    pub async fn delete(&self, id: &SessionId) -> Result<()> {
        todo!()
    }

    /// Queues a prompt, or steers the turn under way.
    pub async fn send(
        &self,
        id: &SessionId,
        turn: CreateTurn,
        once: Option<Idempotency>,
    ) -> Result<Turn> {
        todo!()
    }
    /// A page of turns, oldest first; `cursor` is the number of the last seen.
    pub async fn turns(
        &self,
        id: &SessionId,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<Page<Turn>> {
        todo!()
    }
    /// One turn.
    pub async fn turn(&self, id: &SessionId, turn: &TurnId) -> Result<Turn> {
        todo!()
    }
    /// Takes a queued turn out of the queue; one under way is a conflict (interrupt it).
    pub async fn cancel(&self, id: &SessionId, turn: &TurnId) -> Result<Turn> {
        todo!()
    }
    /// Stops the turn under way; nothing to stop is fine.
    pub async fn interrupt(&self, id: &SessionId) -> Result<Session> {
        todo!()
    }

    /// What the agent waits for.
    pub async fn approvals(&self, id: &SessionId) -> Result<Vec<Approval>> {
        todo!()
    }
    /// Answers it. The same answer twice is fine, another one is a conflict.
    pub async fn decide(
        &self,
        id: &SessionId,
        approval: &ApprovalId,
        decision: Decision,
    ) -> Result<Approval> {
        todo!()
    }

    /// A page of the log after `after`: up to `limit` events; empty if there are none yet.
    pub async fn events(&self, id: &SessionId, after: Seq, limit: u32) -> Result<Vec<Event>> {
        todo!()
    }
    /// The log after `after`, then what is appended, for as long as it is polled. Ends when the
    /// session is deleted or the server stops.
    pub async fn follow(
        &self,
        id: &SessionId,
        after: Seq,
    ) -> Result<BoxStream<'static, Result<Vec<Event>>>> {
        todo!()
    }

    /// Starts a command (waking the session if it is paused); the id may be chosen by the caller
    /// so that a repeated start adopts the first.
    pub async fn exec(
        &self,
        id: &SessionId,
        exec: Option<ExecId>,
        request: CreateExec,
    ) -> Result<Exec> {
        todo!()
    }
    /// Commands, newest first.
    pub async fn execs(&self, id: &SessionId) -> Result<Vec<Exec>> {
        todo!()
    }
    /// One command.
    pub async fn get_exec(&self, id: &SessionId, exec: &ExecId) -> Result<Exec> {
        todo!()
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
        todo!()
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
        todo!()
    }
    /// A signal (`INT`, `TERM`, `KILL`, `HUP`, `QUIT`, `USR1`, `USR2`, `STOP`, `CONT`) for its process group.
    pub async fn exec_signal(&self, id: &SessionId, exec: &ExecId, signal: &str) -> Result<()> {
        todo!()
    }

    /// A file's or directory's entry. Relative paths are relative to the workspace.
    pub async fn stat(&self, id: &SessionId, path: &str) -> Result<FileEntry> {
        todo!()
    }
    /// A directory's entries.
    pub async fn list_files(&self, id: &SessionId, path: &str) -> Result<Vec<FileEntry>> {
        todo!()
    }
    /// A file's bytes, all or a range, and its entry.
    pub async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: Option<Range<u64>>,
    ) -> Result<(FileEntry, BoxStream<'static, Result<Bytes>>)> {
        todo!()
    }
    /// Writes a file whole or not at all, making missing directories.
    pub async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        mode: Option<u32>,
        body: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<FileEntry> {
        todo!()
    }
    /// Removes a file, or a directory with `recursive`.
    pub async fn remove_file(&self, id: &SessionId, path: &str, recursive: bool) -> Result<()> {
        todo!()
    }
    /// A directory as a tar stream.
    pub async fn download_tar(
        &self,
        id: &SessionId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        todo!()
    }
    /// Unpacks a tar stream into a directory, making it if missing.
    pub async fn upload_tar(
        &self,
        id: &SessionId,
        path: &str,
        body: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<()> {
        todo!()
    }

    /// How the session's files differ from where they began.
    pub async fn diff(&self, id: &SessionId, format: DiffFormat) -> Result<SessionDiff> {
        todo!()
    }
    /// What it used, as the gateway metered it.
    pub async fn usage(&self, id: &SessionId) -> Result<UsageSummary> {
        todo!()
    }
}
