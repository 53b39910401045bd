//! How far a session's agent was listened to, and what was said to it.
//!
//! The offsets move in the transaction that appends the events made from the bytes before them,
//! which is what makes each byte count once. What is said to the agent is stored before it is
//! sent, at its offset in the process's standard input; after a break the server sends it again
//! and the daemon drops what it already has.

use rclaude_types::{ExecId, SandboxId, SessionId, Timestamp};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, queries},
};

/// The link to the agent's process.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentLinkRow {
    /// Whose agent it is.
    pub session: SessionId,
    /// The process.
    pub exec: ExecId,
    /// Where it runs.
    pub sandbox: SandboxId,
    /// Bytes of its standard output that were made into events.
    pub stdout_offset: u64,
    /// Bytes of its standard error that were taken note of.
    pub stderr_offset: u64,
    /// What the translator needs to go on from there; opaque here.
    pub translator: Value,
    /// Bytes of stored input: the offset of the next.
    pub stdin_next: u64,
    /// When the process was started.
    pub started_at: Timestamp,
}

/// A piece of what was said to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInput {
    /// Offset of the first byte in the process's standard input.
    pub offset: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

queries! {
    UPSERT = "INSERT INTO agent_link (session, exec_id, sandbox, stdout_offset, stderr_offset, \
              translator, stdin_next, started_at) VALUES ($1, $2, $3, 0, 0, $4, 0, $5) \
              ON CONFLICT (session) DO UPDATE SET exec_id = excluded.exec_id, \
              sandbox = excluded.sandbox, stdout_offset = 0, stderr_offset = 0, \
              translator = excluded.translator, stdin_next = 0, started_at = excluded.started_at";
    GET = "SELECT session, exec_id, sandbox, stdout_offset, stderr_offset, translator, stdin_next, \
           started_at FROM agent_link WHERE session = $1";
    ADVANCE = "UPDATE agent_link SET stdout_offset = $3, stderr_offset = $4, translator = $5 \
               WHERE session = $1 AND exec_id = $2";
    RESERVE = "UPDATE agent_link SET stdin_next = stdin_next + $3 WHERE session = $1 AND exec_id = $2 \
               RETURNING stdin_next";
    REMOVE = "DELETE FROM agent_link WHERE session = $1 AND exec_id = $2";
    INSERT_INPUT = "INSERT INTO agent_input (session, start_offset, end_offset, data) \
                    VALUES ($1, $2, $3, $4)";
    INPUTS = "SELECT start_offset, data FROM agent_input WHERE session = $1 AND end_offset > $2 \
              ORDER BY start_offset";
    CLEAR_INPUTS = "DELETE FROM agent_input WHERE session = $1";
}

/// A new process takes the place of the one before: offsets start at 0, stored input is
/// forgotten.
pub async fn begin(
    tx: &mut Tx,
    session: &SessionId,
    exec: &ExecId,
    sandbox: &SandboxId,
    translator: &Value,
    at: Timestamp,
) -> Result<AgentLinkRow> {
    let values = [session.into(), exec.into(), sandbox.into(), Json(translator).into(), at.into()];
    tx.run(UPSERT, values).await?;
    tx.run(CLEAR_INPUTS, [session.into()]).await?;
    get(tx, session).await?.ok_or_else(|| StoreError::not_found("agent of session", session))
}

/// The link, if an agent was started and not ended.
pub async fn get(conn: &mut Conn, session: &SessionId) -> Result<Option<AgentLinkRow>> {
    conn.first(GET, [session.into()]).await?.as_ref().map(read).transpose()
}

/// Notes how far this process was listened to. Fails with [`StoreError::Stale`] if another one
/// took its place.
pub async fn advance(
    tx: &mut Tx,
    session: &SessionId,
    exec: &ExecId,
    stdout_offset: u64,
    stderr_offset: u64,
    translator: &Value,
) -> Result<()> {
    let values = [
        session.into(),
        exec.into(),
        offset(stdout_offset)?.into(),
        offset(stderr_offset)?.into(),
        Json(translator).into(),
    ];
    if tx.run(ADVANCE, values).await? == 0 {
        return Err(stale(tx, session, exec).await?);
    }
    Ok(())
}

/// Stores something to say to this process. Answers the offset of its first byte. Fails with
/// [`StoreError::Stale`] if another process took its place.
pub async fn push_input(
    tx: &mut Tx,
    session: &SessionId,
    exec: &ExecId,
    data: &[u8],
) -> Result<u64> {
    let length =
        i64::try_from(data.len()).map_err(|error| StoreError::Internal(error.to_string()))?;
    let Some(row) = tx.first(RESERVE, [session.into(), exec.into(), length.into()]).await? else {
        return Err(stale(tx, session, exec).await?);
    };
    let end: i64 = row.get("stdin_next")?;
    let start = end - length;
    if length > 0 {
        tx.run(INSERT_INPUT, [session.into(), start.into(), end.into(), data.into()]).await?;
    }
    u64::try_from(start).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// What was said to the current process from this offset on: pieces as they were stored, the
/// first of which may begin before it.
pub async fn inputs(conn: &mut Conn, session: &SessionId, from: u64) -> Result<Vec<AgentInput>> {
    let rows = conn.all(INPUTS, [session.into(), offset(from)?.into()]).await?;
    rows.iter()
        .map(|row| Ok(AgentInput { offset: row.get("start_offset")?, data: row.get("data")? }))
        .collect()
}

/// The process is over and nothing more will be read from it. One that was replaced already is
/// left alone.
pub async fn end(tx: &mut Tx, session: &SessionId, exec: &ExecId) -> Result<()> {
    if tx.run(REMOVE, [session.into(), exec.into()]).await? > 0 {
        tx.run(CLEAR_INPUTS, [session.into()]).await?;
    }
    Ok(())
}

fn read(row: &Row) -> Result<AgentLinkRow> {
    Ok(AgentLinkRow {
        session: row.get("session")?,
        exec: row.get("exec_id")?,
        sandbox: row.get("sandbox")?,
        stdout_offset: row.get("stdout_offset")?,
        stderr_offset: row.get("stderr_offset")?,
        translator: row.get::<Json<_>>("translator")?.0,
        stdin_next: row.get("stdin_next")?,
        started_at: row.get("started_at")?,
    })
}

fn offset(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|error| StoreError::Internal(error.to_string()))
}

async fn stale(tx: &mut Tx, session: &SessionId, wanted: &ExecId) -> Result<StoreError> {
    let found = get(tx, session).await?.map_or_else(|| "none".to_owned(), |row| row.exec.into());
    Ok(StoreError::Stale { wanted: wanted.to_string(), found })
}
