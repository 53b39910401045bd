//! The session's log: entries numbered from 1 without a gap.
//!
//! `session.last_seq` is the counter; it moves in the transaction that writes the entries, so
//! that a number that was given out is always there to be read. Bodies of any size are kept in
//! the row: SQLite lays long ones aside in overflow pages by itself, and a page of the log is
//! bounded by bytes as well as entries.

use rclaude_types::{Event, EventBody, Seq, SessionId, Timestamp, TurnId};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    db::{self, Json, Row, queries},
};

/// The most bytes of bodies in one page, but for a single entry that is larger than this.
pub const PAGE_BYTES: i64 = 1024 * 1024;

queries! {
    ADVANCE = "UPDATE session SET last_seq = last_seq + $2, updated_at = $3 WHERE id = $1 \
               RETURNING last_seq";
    INSERT = "INSERT INTO event (session, at, seq, turn, bytes, body) VALUES ($1, $2, $3, $4, $5, $6)";
    // What an agent says comes in many small entries: eight at a call cost little more than one.
    INSERT_EIGHT = "INSERT INTO event (session, at, seq, turn, bytes, body) VALUES \
                    ($1, $2, $3, $4, $5, $6), ($1, $2, $7, $8, $9, $10), \
                    ($1, $2, $11, $12, $13, $14), ($1, $2, $15, $16, $17, $18), \
                    ($1, $2, $19, $20, $21, $22), ($1, $2, $23, $24, $25, $26), \
                    ($1, $2, $27, $28, $29, $30), ($1, $2, $31, $32, $33, $34)";
    TURN_STARTED = "SELECT seq FROM event WHERE session = $1 AND turn = $2 \
                    AND body LIKE '{\"type\":\"turn_started\"%' ORDER BY seq LIMIT 1";
    LAST_SEQ = "SELECT last_seq FROM session WHERE id = $1";
    // Sizes are added up first, over at most `$3` small columns; then only what fits is read.
    AFTER = "SELECT seq, at, turn, body FROM event WHERE session = $1 AND seq > $2 AND seq <= \
             (SELECT max(seq) FROM \
               (SELECT seq, sum(bytes) OVER (ORDER BY seq) - bytes AS before FROM \
                 (SELECT seq, bytes FROM event WHERE session = $1 AND seq > $2 \
                  ORDER BY seq LIMIT $3) AS nearest) AS sized \
              WHERE before < $4) \
             ORDER BY seq";
}

/// Where the log says that a turn began, if it did.
pub async fn turn_started(
    conn: &mut Conn,
    session: &SessionId,
    turn: &TurnId,
) -> Result<Option<Seq>> {
    let row = conn.first(TURN_STARTED, [session.into(), turn.into()]).await?;
    row.map(|row| row.get("seq")).transpose()
}

/// Appends entries, all of one moment. Answers the numbers of the first and the last.
pub async fn append(
    tx: &mut Tx,
    session: &SessionId,
    at: Timestamp,
    entries: &[(Option<TurnId>, EventBody)],
) -> Result<(Seq, Seq)> {
    let count =
        i64::try_from(entries.len()).map_err(|error| StoreError::Internal(error.to_string()))?;
    let row = tx.first(ADVANCE, [session.into(), count.into(), at.into()]).await?;
    let last: Seq =
        row.ok_or_else(|| StoreError::not_found("session", session))?.get("last_seq")?;
    let first = last - count + 1;
    let mut seq = first;
    let mut eights = entries.chunks_exact(8);
    for eight in &mut eights {
        tx.run(INSERT_EIGHT, rows::<34>(session, at, seq, eight)?).await?;
        seq += 8;
    }
    for one in eights.remainder().chunks(1) {
        tx.run(INSERT, rows::<6>(session, at, seq, one)?).await?;
        seq += 1;
    }
    Ok((first, last))
}

/// The values of an insertion: session and moment, then four of each entry.
fn rows<const N: usize>(
    session: &SessionId,
    at: Timestamp,
    first: Seq,
    entries: &[(Option<TurnId>, EventBody)],
) -> Result<[db::Value; N]> {
    let mut values = [const { db::Value::Null }; N];
    let (shared, own) = values.split_at_mut(2);
    shared.clone_from_slice(&[session.into(), at.into()]);
    for ((seq, (turn, body)), row) in (first..).zip(entries).zip(own.chunks_exact_mut(4)) {
        let body = serde_json::to_string(body)
            .map_err(|error| StoreError::Internal(format!("an entry of the log: {error}")))?;
        let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
        for (place, value) in
            row.iter_mut().zip([seq.into(), turn.as_ref().into(), bytes.into(), body.into()])
        {
            *place = value;
        }
    }
    Ok(values)
}

/// The entries after `cursor`, oldest first: at most `limit`, and no more than fit in
/// [`PAGE_BYTES`], but at least one if there is one.
pub async fn after(
    conn: &mut Conn,
    session: &SessionId,
    cursor: Seq,
    limit: u32,
) -> Result<Vec<Event>> {
    let values = [session.into(), cursor.into(), limit.into(), PAGE_BYTES.into()];
    conn.all(AFTER, values).await?.iter().map(read).collect()
}

/// The number of the last entry; 0 before the first.
pub async fn last_seq(conn: &mut Conn, session: &SessionId) -> Result<Seq> {
    let row = conn.first(LAST_SEQ, [session.into()]).await?;
    row.ok_or_else(|| StoreError::not_found("session", session))?.get("last_seq")
}

fn read(row: &Row) -> Result<Event> {
    let Json(body): Json<Value> = row.get("body")?;
    // A kind that a newer program wrote before this older one was put back: shown as it is.
    let body = serde_json::from_value(body.clone()).unwrap_or(EventBody::Raw { line: body });
    Ok(Event { seq: row.get("seq")?, at: row.get("at")?, turn: row.get("turn")?, body })
}
