//! What is carried from one server to another: a copy of the whole database, and a session's
//! turns and log as plain data.

use std::{collections::HashSet, path::Path};

use rclaude_types::{Event, LayerId, SessionId, Timestamp, TurnId, TurnOutcome, TurnState};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    checkpoint::{self, LayerRow},
    db::{Json, Row, label, queries},
    event,
};

queries! {
    COPY = "VACUUM INTO $1";
    INTEGRITY = "PRAGMA integrity_check(20)";
    TURNS = "SELECT id, number, text, steer, input, state, outcome, failure, created_at, \
             started_at, ended_at, undone FROM turn WHERE session = $1 AND number > $2 \
             ORDER BY number LIMIT $3";
    PUT_TURN = "INSERT INTO turn (id, session, number, text, steer, input, state, outcome, \
                failure, created_at, started_at, ended_at, undone) \
                VALUES ($1, $2, $3, $4, $5, $6, 'ended', $7, $8, $9, $10, $11, $12)";
    PUT_EVENT = "INSERT INTO event (session, at, seq, turn, bytes, body) \
                 VALUES ($1, $2, $3, $4, $5, $6)";
    ADVANCE = "UPDATE session SET last_seq = $2 WHERE id = $1";
    FORGET_LAYERS = "DELETE FROM layer";
    STACKS = "SELECT id, stack FROM checkpoint WHERE state = 'sealed'";
    SET_STORED = "UPDATE checkpoint SET stored = $2 WHERE id = $1";
    SET_CHECKOUT = "UPDATE session SET checkout = $2 WHERE id = $1";
}

/// Writes a consistent copy of the database to a file that does not exist.
pub(crate) async fn copy(conn: &mut Conn, path: &Path) -> Result<()> {
    let path = path.to_str().ok_or_else(|| {
        StoreError::Internal(format!("{} cannot be written as text", path.display()))
    })?;
    conn.run(COPY, [path.into()]).await.map(drop)
}

/// What is wrong with the database's file; nothing, if it is sound.
pub async fn integrity(conn: &mut Conn) -> Result<Vec<String>> {
    let rows = conn.all(INTEGRITY, []).await?;
    let said = rows.iter().map(|row| row.get("integrity_check"));
    let said: Result<Vec<String>> = said.collect();
    Ok(said?.into_iter().filter(|line| line != "ok").collect())
}

/// A turn as it is carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarriedTurn {
    /// Its id where it was.
    pub id: TurnId,
    /// Its number.
    pub number: i64,
    /// The prompt.
    pub text: String,
    /// Said to the turn under way.
    #[serde(default)]
    pub steer: bool,
    /// What its sender attached.
    #[serde(default)]
    pub input: Value,
    /// Where it stood.
    pub state: TurnState,
    /// How it ended.
    #[serde(default)]
    pub outcome: Option<TurnOutcome>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<String>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// It was taken back by a rewind.
    #[serde(default)]
    pub undone: bool,
}

fn read(row: &Row) -> Result<CarriedTurn> {
    Ok(CarriedTurn {
        id: row.get("id")?,
        number: row.get("number")?,
        text: row.get("text")?,
        steer: row.get("steer")?,
        input: row.get::<Json<_>>("input")?.0,
        state: row.word("state")?,
        outcome: row.word_if_any("outcome")?,
        failure: row.get("failure")?,
        created_at: row.get("created_at")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        undone: row.get("undone")?,
    })
}

/// Up to `limit` of a session's turns after number `after`, oldest first.
pub async fn turns(
    conn: &mut Conn,
    session: &SessionId,
    after: i64,
    limit: u32,
) -> Result<Vec<CarriedTurn>> {
    conn.all(TURNS, [session.into(), after.into(), limit.into()]).await?.iter().map(read).collect()
}

/// Puts a turn that is over into a session's history, under the id it has there. One that was not
/// over where it comes from was interrupted by the journey, or never begun.
pub async fn put_turn(
    tx: &mut Tx,
    session: &SessionId,
    turn: &CarriedTurn,
    at: Timestamp,
) -> Result<()> {
    let journey = match turn.state {
        TurnState::Queued => TurnOutcome::Cancelled,
        _ => TurnOutcome::Interrupted,
    };
    let values = [
        (&turn.id).into(),
        session.into(),
        turn.number.into(),
        (&turn.text).into(),
        turn.steer.into(),
        Json(&turn.input).into(),
        label(turn.outcome.unwrap_or(journey)).into(),
        turn.failure.as_ref().into(),
        turn.created_at.into(),
        turn.started_at.into(),
        turn.ended_at.unwrap_or(at).into(),
        turn.undone.into(),
    ];
    tx.run(PUT_TURN, values).await.map(drop)
}

/// Puts entries at the beginning of a session's log that is still empty; they count from 1.
pub async fn put_log(tx: &mut Tx, session: &SessionId, events: &[Event]) -> Result<()> {
    if event::last_seq(tx, session).await? != 0 {
        return Err(StoreError::Conflict("the session has a log already".to_owned()));
    }
    let mut seq = 0_i64;
    for event in events {
        seq += 1;
        let body = serde_json::to_string(&event.body)
            .map_err(|error| StoreError::Internal(format!("an entry of the log: {error}")))?;
        let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
        let values = [
            session.into(),
            event.at.into(),
            seq.into(),
            event.turn.as_ref().into(),
            bytes.into(),
            body.into(),
        ];
        tx.run(PUT_EVENT, values).await?;
    }
    tx.run(ADVANCE, [session.into(), seq.into()]).await.map(drop)
}

/// Writes what a snapshot store holds over what was noted before: these layers, and the checkpoints
/// that stand on nothing else.
pub async fn set_stored_layers(tx: &mut Tx, layers: &[LayerRow], at: Timestamp) -> Result<()> {
    tx.run(FORGET_LAYERS, []).await?;
    for layer in layers {
        checkpoint::put_layer(tx, layer, at).await?;
    }
    let held: HashSet<&LayerId> = layers.iter().map(|layer| &layer.id).collect();
    for row in tx.all(STACKS, []).await? {
        let (id, Json(stack)): (String, Json<Vec<LayerId>>) = (row.get("id")?, row.get("stack")?);
        let stored = stack.iter().all(|layer| held.contains(layer));
        tx.run(SET_STORED, [id.into(), stored.into()]).await?;
    }
    Ok(())
}

/// Writes another checkout over a session's.
pub async fn set_checkout(tx: &mut Tx, session: &SessionId, checkout: &Value) -> Result<()> {
    tx.run(SET_CHECKOUT, [session.into(), Json(checkout).into()]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use crate::Store;

    #[tokio::test]
    async fn a_copy_is_whole_private_and_opens_as_the_original_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("rclaude.db")).await.unwrap();
        store.write(async |tx| crate::meta::set(tx, "kept", "yes").await).await.unwrap();
        let copy = dir.path().join("copy.db");
        store.copy_to(&copy).await.unwrap();
        store.write(async |tx| crate::meta::set(tx, "kept", "no").await).await.unwrap();
        assert!(store.copy_to(&copy).await.is_err(), "there is a file already");
        let copied = Store::open(&copy).await.unwrap();
        let mut conn = copied.read().await.unwrap();
        assert_eq!(crate::meta::get(&mut conn, "kept").await.unwrap().as_deref(), Some("yes"));
        assert_eq!(super::integrity(&mut conn).await.unwrap(), Vec::<String>::new());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&copy).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
}
