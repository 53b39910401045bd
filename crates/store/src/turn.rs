//! Turns: a session's queue of prompts and what became of them.

use rclaude_types::{Seq, SessionId, Timestamp, Turn, TurnId, TurnOutcome, TurnState};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
    event,
};

/// A turn's row.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRow {
    /// The turn as callers see it.
    pub turn: Turn,
    /// Meant for the turn that was under way when it was sent.
    pub steer: bool,
    /// What its sender attached; opaque here.
    pub input: Value,
}

impl From<TurnRow> for Turn {
    fn from(row: TurnRow) -> Self {
        row.turn
    }
}

/// What a new turn is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTurn {
    /// Its id.
    pub id: TurnId,
    /// Whose it is.
    pub session: SessionId,
    /// The prompt.
    pub text: String,
    /// Meant for the turn under way.
    pub steer: bool,
    /// What its sender attached; `null` for nothing.
    pub input: Value,
    /// Now.
    pub at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, session, number, text, steer, input, state, outcome, failure, created_at, \
         started_at, ended_at"
    };
}

queries! {
    INSERT = "INSERT INTO turn (id, session, number, text, steer, input, state, created_at) \
              SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, 'queued', $6 \
              FROM turn WHERE session = $2";
    GET = concat!("SELECT ", columns!(), " FROM turn WHERE id = $1");
    PAGE = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 AND number > $2 \
            ORDER BY number LIMIT $3");
    // `state <> 'ended'` says nothing new, but is what lets the small index of open turns be used.
    QUEUED = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 AND state = 'queued' \
              AND state <> 'ended' ORDER BY number");
    NEXT_QUEUED = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 \
                   AND state = 'queued' AND state <> 'ended' ORDER BY number LIMIT 1");
    CURRENT = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 \
               AND state IN ('running', 'awaiting_input') AND state <> 'ended' \
               ORDER BY number LIMIT 1");
    UNDER_WAY = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 \
                 AND state IN ('running', 'awaiting_input') AND state <> 'ended' \
                 ORDER BY number");
    OPEN = concat!("SELECT ", columns!(), " FROM turn WHERE session = $1 AND state <> 'ended' \
            ORDER BY state = 'queued', number LIMIT 1");
    LAST_BEGUN = "SELECT id FROM turn WHERE session = $1 AND started_at IS NOT NULL \
                  AND steer = 0 AND undone = 0 ORDER BY number DESC LIMIT $2";
    UNDONE = "SELECT number FROM turn WHERE session = $1 AND undone = 1 ORDER BY number";
    BEGUN = "SELECT id, number FROM turn WHERE session = $1 AND started_at IS NOT NULL \
             ORDER BY number DESC";
    DO_AGAIN = "UPDATE turn SET undone = 0 WHERE session = $1 AND undone = 1";
    UNDO = "UPDATE turn SET undone = 1 WHERE session = $1 AND number = $2";
    SET_STATE = "UPDATE turn SET state = $2, started_at = coalesce(started_at, $3) WHERE id = $1";
    REQUEUE = "UPDATE turn SET state = 'queued', started_at = NULL WHERE id = $1";
    END = "UPDATE turn SET state = 'ended', outcome = $2, failure = $3, ended_at = $4 WHERE id = $1";
}

fn read(row: &Row) -> Result<TurnRow> {
    Ok(TurnRow {
        turn: Turn {
            id: row.get("id")?,
            session: row.get("session")?,
            number: row.get("number")?,
            text: row.get("text")?,
            state: row.word("state")?,
            outcome: row.word_if_any("outcome")?,
            failure: row.get("failure")?,
            created_at: row.get("created_at")?,
            started_at: row.get("started_at")?,
            ended_at: row.get("ended_at")?,
        },
        steer: row.get("steer")?,
        input: row.get::<Json<_>>("input")?.0,
    })
}

/// The last turns that began and were not taken back, newest first.
pub async fn last_begun(conn: &mut Conn, session: &SessionId, limit: u32) -> Result<Vec<TurnId>> {
    let rows = conn.all(LAST_BEGUN, [session.into(), i64::from(limit).into()]).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// The numbers of the turns that were taken back by rewinds.
pub async fn undone(conn: &mut Conn, session: &SessionId) -> Result<Vec<i64>> {
    conn.all(UNDONE, [session.into()]).await?.iter().map(|row| row.get("number")).collect()
}

/// Notes that the session went back to a state that knew the log up to `seq`, in which the turns
/// `undone` had been taken back: those are, and all that began after it.
pub async fn taken_back(tx: &mut Tx, session: &SessionId, seq: Seq, undone: &[i64]) -> Result<()> {
    tx.run(DO_AGAIN, [session.into()]).await?;
    for &number in undone {
        tx.run(UNDO, [session.into(), number.into()]).await?;
    }
    for row in tx.all(BEGUN, [session.into()]).await? {
        let (id, number): (TurnId, i64) = (row.get("id")?, row.get("number")?);
        match event::turn_started(tx, session, &id).await? {
            Some(began) if began <= seq => break,
            _ => tx.run(UNDO, [session.into(), number.into()]).await?,
        };
    }
    Ok(())
}

/// Adds a turn to the end of its session's queue.
pub async fn enqueue(tx: &mut Tx, new: &NewTurn) -> Result<TurnRow> {
    let values = [
        (&new.id).into(),
        (&new.session).into(),
        (&new.text).into(),
        new.steer.into(),
        Json(&new.input).into(),
        new.at.into(),
    ];
    tx.run(INSERT, values).await?;
    get(tx, &new.id).await
}

/// A turn by its id.
pub async fn get(conn: &mut Conn, id: &TurnId) -> Result<TurnRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("turn", id))?)
}

/// Up to `limit` of a session's turns after number `after`, oldest first.
pub async fn list(
    conn: &mut Conn,
    session: &SessionId,
    after: i64,
    limit: u32,
) -> Result<Vec<TurnRow>> {
    conn.all(PAGE, [session.into(), after.into(), limit.into()]).await?.iter().map(read).collect()
}

/// The turn to be taken up next.
pub async fn next_queued(conn: &mut Conn, session: &SessionId) -> Result<Option<TurnRow>> {
    conn.first(NEXT_QUEUED, [session.into()]).await?.as_ref().map(read).transpose()
}

/// All that wait, in order.
pub async fn queued(conn: &mut Conn, session: &SessionId) -> Result<Vec<TurnRow>> {
    conn.all(QUEUED, [session.into()]).await?.iter().map(read).collect()
}

/// The turn under way: running, or waiting for its user.
pub async fn current(conn: &mut Conn, session: &SessionId) -> Result<Option<TurnRow>> {
    conn.first(CURRENT, [session.into()]).await?.as_ref().map(read).transpose()
}

/// The turn under way, and after it the prompts that were said to it, in order.
pub async fn under_way(conn: &mut Conn, session: &SessionId) -> Result<Vec<TurnRow>> {
    conn.all(UNDER_WAY, [session.into()]).await?.iter().map(read).collect()
}

/// The turn under way or, without one, the turn to be taken up next.
pub async fn open(conn: &mut Conn, session: &SessionId) -> Result<Option<TurnRow>> {
    conn.first(OPEN, [session.into()]).await?.as_ref().map(read).transpose()
}

/// The agent begins with a queued turn. Fails with [`StoreError::Conflict`] if it is not queued.
pub async fn begin(tx: &mut Tx, id: &TurnId, at: Timestamp) -> Result<TurnRow> {
    expect(tx, id, "begun", &[TurnState::Queued]).await?;
    tx.run(SET_STATE, [id.into(), label(TurnState::Running).into(), at.into()]).await?;
    get(tx, id).await
}

/// The agent waits for its user, or no longer does. Fails with [`StoreError::Conflict`] if the
/// turn is not under way.
pub async fn set_awaiting(tx: &mut Tx, id: &TurnId, awaiting: bool) -> Result<TurnRow> {
    let under_way = [TurnState::Running, TurnState::AwaitingInput];
    let row = expect(tx, id, "waited in", &under_way).await?;
    let state = if awaiting { TurnState::AwaitingInput } else { TurnState::Running };
    if row.turn.state == state {
        return Ok(row);
    }
    tx.run(SET_STATE, [id.into(), label(state).into(), row.turn.started_at.into()]).await?;
    get(tx, id).await
}

/// Puts a turn under way back into the queue, as if it had not begun: the agent never got it.
/// Fails with [`StoreError::Conflict`] if it is not under way.
pub async fn requeue(tx: &mut Tx, id: &TurnId) -> Result<TurnRow> {
    expect(tx, id, "put back", &[TurnState::Running, TurnState::AwaitingInput]).await?;
    tx.run(REQUEUE, [id.into()]).await?;
    get(tx, id).await
}

/// The turn is over. Fails with [`StoreError::Conflict`] if it was already.
pub async fn end(
    tx: &mut Tx,
    id: &TurnId,
    outcome: TurnOutcome,
    failure: Option<&str>,
    at: Timestamp,
) -> Result<TurnRow> {
    let open = [TurnState::Queued, TurnState::Running, TurnState::AwaitingInput];
    expect(tx, id, "ended", &open).await?;
    tx.run(END, [id.into(), label(outcome).into(), failure.into(), at.into()]).await?;
    get(tx, id).await
}

/// Takes a turn out of the queue. Fails with [`StoreError::Conflict`] if it is not in it.
pub async fn cancel(tx: &mut Tx, id: &TurnId, at: Timestamp) -> Result<TurnRow> {
    expect(tx, id, "cancelled", &[TurnState::Queued]).await?;
    end(tx, id, TurnOutcome::Cancelled, None, at).await
}

async fn expect(tx: &mut Tx, id: &TurnId, verb: &str, states: &[TurnState]) -> Result<TurnRow> {
    let row = get(tx, id).await?;
    if states.contains(&row.turn.state) {
        return Ok(row);
    }
    let state = label(row.turn.state);
    Err(StoreError::Conflict(format!("the turn cannot be {verb}: it is {state}")))
}
