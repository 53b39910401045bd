//! API keys, by the hash of their secret.

use rclaude_types::{ApiKey, KeyId, Timestamp};

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Row, queries},
};

macro_rules! columns {
    () => {
        "id, name, hint, created_at, last_used_at, revoked_at"
    };
}

queries! {
    INSERT = "INSERT INTO api_key (id, name, hint, hash, created_at) VALUES ($1, $2, $3, $4, $5)";
    GET = concat!("SELECT ", columns!(), " FROM api_key WHERE id = $1");
    BY_HASH = concat!("SELECT ", columns!(), " FROM api_key WHERE hash = $1 AND revoked_at IS NULL");
    LIST = concat!("SELECT ", columns!(), " FROM api_key ORDER BY id DESC");
    REVOKE = "UPDATE api_key SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    TOUCH = "UPDATE api_key SET last_used_at = $2 WHERE id = $1";
}

fn read(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.get("id")?,
        name: row.get("name")?,
        hint: row.get("hint")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

/// Adds a key that was never used.
pub async fn insert(tx: &mut Tx, key: &ApiKey, hash: &[u8; 32]) -> Result<()> {
    let values = [
        (&key.id).into(),
        (&key.name).into(),
        (&key.hint).into(),
        hash.as_slice().into(),
        key.created_at.into(),
    ];
    tx.run(INSERT, values).await.map(drop)
}

/// The key with this hash, unless it was revoked.
pub async fn find_by_hash(conn: &mut Conn, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    conn.first(BY_HASH, [hash.as_slice().into()]).await?.as_ref().map(read).transpose()
}

/// All keys, revoked ones included, newest first.
pub async fn list(conn: &mut Conn) -> Result<Vec<ApiKey>> {
    conn.all(LIST, []).await?.iter().map(read).collect()
}

/// Revokes a key. Revoking it twice is fine.
pub async fn revoke(tx: &mut Tx, id: &KeyId, at: Timestamp) -> Result<ApiKey> {
    tx.run(REVOKE, [id.into(), at.into()]).await?;
    let row = tx.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("key", id))?)
}

/// Notes that a key was used.
pub async fn touch(tx: &mut Tx, id: &KeyId, at: Timestamp) -> Result<()> {
    tx.run(TOUCH, [id.into(), at.into()]).await.map(drop)
}
