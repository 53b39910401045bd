//! Public keys that open sessions over SSH, by their fingerprint.

use rclaude_types::{SshKey, SshKeyId, Timestamp};

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Row, queries},
};

macro_rules! columns {
    () => {
        "id, name, public_key, fingerprint, created_at, last_used_at"
    };
}

queries! {
    INSERT = concat!(
        "INSERT INTO ssh_key (id, name, public_key, fingerprint, created_at) ",
        "VALUES ($1, $2, $3, $4, $5)"
    );
    BY_FINGERPRINT = concat!("SELECT ", columns!(), " FROM ssh_key WHERE fingerprint = $1");
    LIST = concat!("SELECT ", columns!(), " FROM ssh_key ORDER BY id DESC");
    REMOVE = "DELETE FROM ssh_key WHERE id = $1 RETURNING id";
    TOUCH = "UPDATE ssh_key SET last_used_at = $2 WHERE id = $1";
}

fn read(row: &Row) -> Result<SshKey> {
    Ok(SshKey {
        id: row.get("id")?,
        name: row.get("name")?,
        public_key: row.get("public_key")?,
        fingerprint: row.get("fingerprint")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
    })
}

/// Adds a key that was never used, or finds the one that is there already.
pub async fn insert_or_adopt(tx: &mut Tx, key: &SshKey) -> Result<SshKey> {
    if let Some(known) = find(tx, &key.fingerprint).await? {
        return Ok(known);
    }
    let values = [
        (&key.id).into(),
        (&key.name).into(),
        (&key.public_key).into(),
        (&key.fingerprint).into(),
        key.created_at.into(),
    ];
    tx.run(INSERT, values).await?;
    Ok(SshKey { last_used_at: None, ..key.clone() })
}

/// The key with this fingerprint.
pub async fn find(conn: &mut Conn, fingerprint: &str) -> Result<Option<SshKey>> {
    conn.first(BY_FINGERPRINT, [fingerprint.into()]).await?.as_ref().map(read).transpose()
}

/// All keys, newest first.
pub async fn list(conn: &mut Conn) -> Result<Vec<SshKey>> {
    conn.all(LIST, []).await?.iter().map(read).collect()
}

/// Removes a key.
pub async fn remove(tx: &mut Tx, id: &SshKeyId) -> Result<()> {
    match tx.first(REMOVE, [id.into()]).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::not_found("ssh key", id)),
    }
}

/// Notes that a key opened a connection.
pub async fn touch(tx: &mut Tx, id: &SshKeyId, at: Timestamp) -> Result<()> {
    tx.run(TOUCH, [id.into(), at.into()]).await.map(drop)
}
