//! Words about the server itself, by key.

use crate::{Conn, Result, Tx, db::queries};

queries! {
    GET = "SELECT value FROM meta WHERE key = $1";
    SET = "INSERT INTO meta (key, value) VALUES ($1, $2) \
           ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    SET_IF_ABSENT = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
}

/// The word under a key.
pub async fn get(conn: &mut Conn, key: &str) -> Result<Option<String>> {
    conn.first(GET, [key.into()]).await?.map(|row| row.get("value")).transpose()
}

/// Puts a word under a key, in place of the one before.
pub async fn set(tx: &mut Tx, key: &str, value: &str) -> Result<()> {
    tx.run(SET, [key.into(), value.into()]).await.map(drop)
}

/// Puts a word under a key unless there is one; the one that is there then.
pub async fn get_or_set(tx: &mut Tx, key: &str, value: &str) -> Result<String> {
    tx.run(SET_IF_ABSENT, [key.into(), value.into()]).await?;
    Ok(get(tx, key).await?.unwrap_or_else(|| value.to_owned()))
}
