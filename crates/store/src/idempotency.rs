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
    FORGET = "DELETE FROM idempotency WHERE key = $1 AND created_at < $2";
    INSERT = "INSERT INTO idempotency (key, digest, created_at) VALUES ($1, $2, $3) \
              ON CONFLICT (key) DO NOTHING";
    GET = "SELECT digest, response, created_at FROM idempotency WHERE key = $1";
    ANSWER = "UPDATE idempotency SET response = $2 WHERE key = $1";
    EXPIRE = "DELETE FROM idempotency WHERE created_at < $1";
}

/// Claims a key for a request. A key older than a day is as good as new.
pub async fn claim(tx: &mut Tx, key: &str, digest: &[u8; 32], now: Timestamp) -> Result<Claim> {
    tx.run(FORGET, [key.into(), horizon(now).into()]).await?;
    let added = tx.run(INSERT, [key.into(), digest.as_slice().into(), now.into()]).await?;
    if added > 0 {
        return Ok(Claim::New);
    }
    look(tx, key, digest, now).await
}

/// What claiming a key would come to now, without claiming it.
pub async fn look(conn: &mut Conn, key: &str, digest: &[u8; 32], now: Timestamp) -> Result<Claim> {
    let Some(row) = conn.first(GET, [key.into()]).await? else { return Ok(Claim::New) };
    if row.get::<Timestamp>("created_at")? < horizon(now) {
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

/// Forgets the keys older than a day; how many those were.
pub async fn expire(tx: &mut Tx, now: Timestamp) -> Result<u64> {
    tx.run(EXPIRE, [horizon(now).into()]).await
}

fn horizon(now: Timestamp) -> Timestamp {
    Timestamp::from_micros(now.as_micros().saturating_sub(KEPT_MICROS))
}
