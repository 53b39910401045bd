//! Leases: sessions lent out as sandboxes through the E2B door, for how long, and what then.

use std::collections::BTreeMap;

use rclaude_types::{SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
};

/// What becomes of a sandbox whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// It stands still, memory and processes kept.
    Freeze,
    /// Its files are kept, its processes end.
    Hibernate,
    /// It is deleted.
    Delete,
}

/// A sandbox that is lent out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which session it is.
    pub session: SessionId,
    /// What its maker called the template.
    pub template: String,
    /// Its maker's words for it.
    pub metadata: BTreeMap<String, String>,
    /// Environment of the processes started through the door, on top of the session's.
    pub env: BTreeMap<String, String>,
    /// When its time is up.
    pub ends_at: Timestamp,
    /// Whether that is still to come; what is set aside has no end.
    pub armed: bool,
    /// What becomes of it then.
    pub at_end: AtEnd,
    /// Whether a request to it brings it back once it is set aside.
    pub auto_resume: bool,
    /// When it was lent out.
    pub created_at: Timestamp,
}

macro_rules! columns {
    () => {
        "lease.session, lease.template, lease.metadata, lease.env, lease.ends_at, lease.armed, \
         lease.at_end, lease.auto_resume, lease.created_at"
    };
}

queries! {
    INSERT = "INSERT INTO lease (session, template, metadata, env, ends_at, armed, at_end, \
              auto_resume, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    GET = concat!("SELECT ", columns!(), " FROM lease WHERE session = $1");
    NEWEST = concat!("SELECT ", columns!(), " FROM lease \
             JOIN session ON session.id = lease.session \
             WHERE lease.session < $1 AND session.desired <> 'deleted' \
             ORDER BY lease.session DESC LIMIT $2");
    OLDEST = concat!("SELECT ", columns!(), " FROM lease \
             JOIN session ON session.id = lease.session \
             WHERE lease.session > $1 AND session.desired <> 'deleted' \
             ORDER BY lease.session LIMIT $2");
    SET_END = "UPDATE lease SET ends_at = $2, armed = $3 WHERE session = $1";
    NEXT = "SELECT ends_at FROM lease WHERE armed = 1 ORDER BY ends_at LIMIT 1";
    DUE = "SELECT session FROM lease WHERE armed = 1 AND ends_at <= $1 ORDER BY ends_at LIMIT 100";
}

fn read(row: &Row) -> Result<Lease> {
    Ok(Lease {
        session: row.get("session")?,
        template: row.get("template")?,
        metadata: row.get::<Json<_>>("metadata")?.0,
        env: row.get::<Json<_>>("env")?.0,
        ends_at: row.get("ends_at")?,
        armed: row.get("armed")?,
        at_end: row.word("at_end")?,
        auto_resume: row.get("auto_resume")?,
        created_at: row.get("created_at")?,
    })
}

/// Lends a session out.
pub async fn insert(tx: &mut Tx, lease: &Lease) -> Result<()> {
    let values = [
        (&lease.session).into(),
        (&lease.template).into(),
        Json(&lease.metadata).into(),
        Json(&lease.env).into(),
        lease.ends_at.into(),
        lease.armed.into(),
        label(lease.at_end).into(),
        lease.auto_resume.into(),
        lease.created_at.into(),
    ];
    tx.run(INSERT, values).await.map(drop)
}

/// A session's lease. Fails with [`StoreError::NotFound`] if it was not lent out.
pub async fn get(conn: &mut Conn, session: &SessionId) -> Result<Lease> {
    let row = conn.first(GET, [session.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("session", session))?)
}

/// At most `limit` leases of sessions whose deletion was not asked for, after `after` in the order
/// of their making, or before it in the opposite one.
pub async fn page(
    conn: &mut Conn,
    after: Option<&SessionId>,
    oldest_first: bool,
    limit: u32,
) -> Result<Vec<Lease>> {
    // Before and beyond every id.
    let (query, start) = if oldest_first { (OLDEST, "") } else { (NEWEST, "t") };
    let after = after.map_or(start, SessionId::as_str);
    conn.all(query, [after.into(), limit.into()]).await?.iter().map(read).collect()
}

/// Sets when a lease ends, and whether that is still to come.
pub async fn set_end(
    tx: &mut Tx,
    session: &SessionId,
    ends_at: Timestamp,
    armed: bool,
) -> Result<()> {
    tx.run(SET_END, [session.into(), ends_at.into(), armed.into()]).await.map(drop)
}

/// When the next lease ends.
pub async fn next(conn: &mut Conn) -> Result<Option<Timestamp>> {
    conn.first(NEXT, []).await?.map(|row| row.get("ends_at")).transpose()
}

/// Up to 100 sessions whose lease has ended by `now`.
pub async fn due(conn: &mut Conn, now: Timestamp) -> Result<Vec<SessionId>> {
    conn.all(DUE, [now.into()]).await?.iter().map(|row| row.get("session")).collect()
}
