//! Requests that were done once and must not be done twice.
//!
//! A key is claimed in the transaction that has the effect, and the answer is stored in it too:
//! either all three are there or none.

use rclaude_types::Timestamp;
use serde_json::Value;

use crate::{
    Conn, Result, Tx,
    db::{Json, queries},
};

/// How long a key is remembered, in microseconds: a day.
pub const KEPT_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The newest keys, which are remembered in any case: a clock that is set forward by days must not
/// have a request that is being repeated done twice.
pub const KEPT_KEYS: u32 = 1000;

/// What a key turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Not seen before: do it, then [`answer`].
    New,
    /// The same request, done before: this was the answer. `null` if none was stored.
    Same(Value),
    /// Another request under the same key.
    Mismatch,
}

queries! {
    FORGET = "DELETE FROM idempotency WHERE key = $1";
    INSERT = "INSERT INTO idempotency (key, digest, created_at) VALUES ($1, $2, $3) \
              ON CONFLICT (key) DO NOTHING";
    GET = "SELECT digest, response, created_at FROM idempotency WHERE key = $1";
    ANSWER = "UPDATE idempotency SET response = $2 WHERE key = $1";
    NEWEST_BUT = "SELECT created_at FROM idempotency ORDER BY created_at DESC LIMIT 1 OFFSET $1";
    EXPIRE = "DELETE FROM idempotency WHERE created_at < $1";
}

/// Claims a key for a request. One that is not remembered is as good as new.
pub async fn claim(tx: &mut Tx, key: &str, digest: &[u8; 32], now: Timestamp) -> Result<Claim> {
    let values = || [key.into(), digest.as_slice().into(), now.into()];
    if tx.run(INSERT, values()).await? > 0 {
        return Ok(Claim::New);
    }
    let found = look(tx, key, digest, now).await?;
    if found == Claim::New {
        tx.run(FORGET, [key.into()]).await?;
        tx.run(INSERT, values()).await?;
    }
    Ok(found)
}

/// What claiming a key would come to now, without claiming it.
pub async fn look(conn: &mut Conn, key: &str, digest: &[u8; 32], now: Timestamp) -> Result<Claim> {
    let Some(row) = conn.first(GET, [key.into()]).await? else { return Ok(Claim::New) };
    let at = row.get::<Timestamp>("created_at")?;
    if at < a_day_before(now) && at < oldest_of_the_newest(conn).await? {
        return Ok(Claim::New);
    }
    if row.get::<Vec<u8>>("digest")? != digest {
        return Ok(Claim::Mismatch);
    }
    let response: Option<Json<Value>> = row.get("response")?;
    Ok(Claim::Same(response.map_or(Value::Null, |json| json.0)))
}

/// Stores the answer to a request that was claimed in the same transaction.
pub async fn answer(tx: &mut Tx, key: &str, response: &Value) -> Result<()> {
    tx.run(ANSWER, [key.into(), Json(response).into()]).await.map(drop)
}

/// Forgets the keys older than a day but for the newest; how many those were.
pub async fn expire(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    let horizon = a_day_before(now).min(oldest_of_the_newest(tx).await?);
    tx.run(EXPIRE, [horizon.into()]).await
}

fn a_day_before(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(KEPT_MICROS))
}

/// When the oldest of those was claimed that are remembered in any case.
async fn oldest_of_the_newest(conn: &mut Conn) -> Result<Timestamp> {
    let found = conn.first(NEWEST_BUT, [(KEPT_KEYS - 1).into()]).await?;
    found.map_or(Ok(Timestamp::from_micros(i64::MIN)), |row| row.get("created_at"))
}
