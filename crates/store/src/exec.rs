//! Commands run in sessions from outside.

use rclaude_types::{Exec, ExecId, ExecState, SandboxId, SessionId, Timestamp};

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
};

/// A command's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRow {
    /// The command as callers see it.
    pub exec: Exec,
    /// Whose it is.
    pub session: SessionId,
    /// Where it runs.
    pub sandbox: SandboxId,
    /// When it ended, or was lost.
    pub ended_at: Option<Timestamp>,
}

/// What a new command is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExec {
    /// Its id.
    pub id: ExecId,
    /// Whose it is.
    pub session: SessionId,
    /// Where it runs.
    pub sandbox: SandboxId,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Now.
    pub at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, session, sandbox, command, state, exit_code, signal, started_at, ended_at"
    };
}

queries! {
    INSERT = "INSERT INTO exec (id, session, sandbox, command, state, started_at) \
              VALUES ($1, $2, $3, $4, 'running', $5) ON CONFLICT (id) DO NOTHING";
    GET = concat!("SELECT ", columns!(), " FROM exec WHERE id = $1");
    OF_SESSION = concat!("SELECT ", columns!(), " FROM exec WHERE session = $1 \
                  ORDER BY id DESC LIMIT $2");
    RUNNING = concat!("SELECT ", columns!(), " FROM exec WHERE sandbox = $1 AND state = 'running' \
               ORDER BY id");
    FINISH = "UPDATE exec SET state = $2, exit_code = $3, signal = $4, ended_at = $5 \
              WHERE id = $1 AND state = 'running'";
}

fn read(row: &Row) -> Result<ExecRow> {
    Ok(ExecRow {
        exec: Exec {
            id: row.get("id")?,
            command: row.get::<Json<_>>("command")?.0,
            state: row.word("state")?,
            exit_code: row.get("exit_code")?,
            signal: row.get("signal")?,
            started_at: row.get("started_at")?,
        },
        session: row.get("session")?,
        sandbox: row.get("sandbox")?,
        ended_at: row.get("ended_at")?,
    })
}

/// Adds a command that runs, or finds the one there is under its id; whether it is new. Fails
/// with [`StoreError::Conflict`] if that one is another session's.
pub async fn insert_or_adopt(tx: &mut Tx, new: &NewExec) -> Result<(ExecRow, bool)> {
    let values = [
        (&new.id).into(),
        (&new.session).into(),
        (&new.sandbox).into(),
        Json(&new.command).into(),
        new.at.into(),
    ];
    let added = tx.run(INSERT, values).await? > 0;
    let row = get(tx, &new.id).await?;
    if row.session != new.session {
        return Err(StoreError::Conflict(format!("{} names another session's command", new.id)));
    }
    Ok((row, added))
}

/// A command by its id.
pub async fn get(conn: &mut Conn, id: &ExecId) -> Result<ExecRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("exec", id))?)
}

/// Up to `limit` of a session's commands, newest first.
pub async fn list(conn: &mut Conn, session: &SessionId, limit: u32) -> Result<Vec<ExecRow>> {
    conn.all(OF_SESSION, [session.into(), limit.into()]).await?.iter().map(read).collect()
}

/// The commands that run in a sandbox, oldest first.
pub async fn list_running(conn: &mut Conn, sandbox: &SandboxId) -> Result<Vec<ExecRow>> {
    conn.all(RUNNING, [sandbox.into()]).await?.iter().map(read).collect()
}

/// Notes how a command ended; whether that is news.
pub async fn finish(
    tx: &mut Tx,
    id: &ExecId,
    exit_code: Option<i32>,
    signal: Option<i32>,
    at: Timestamp,
) -> Result<bool> {
    let values =
        [id.into(), label(ExecState::Exited).into(), exit_code.into(), signal.into(), at.into()];
    tx.run(FINISH, values).await.map(|changed| changed > 0)
}

/// Notes that nothing is known of how a command ended; whether that is news.
pub async fn lose(tx: &mut Tx, id: &ExecId, at: Timestamp) -> Result<bool> {
    let unknown: Option<i32> = None;
    let values =
        [id.into(), label(ExecState::Lost).into(), unknown.into(), unknown.into(), at.into()];
    tx.run(FINISH, values).await.map(|changed| changed > 0)
}

/// Notes that a sandbox ended under its commands. Answers which those were.
pub async fn mark_lost(tx: &mut Tx, sandbox: &SandboxId, at: Timestamp) -> Result<Vec<ExecRow>> {
    let running = list_running(tx, sandbox).await?;
    let mut lost = Vec::with_capacity(running.len());
    for row in running {
        lose(tx, &row.exec.id, at).await?;
        lost.push(get(tx, &row.exec.id).await?);
    }
    Ok(lost)
}
