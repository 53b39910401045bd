//! The usage clock: how long each session was how far awake.
//!
//! A session's time is cut into spans. A span begins where the one before ended, so no moment
//! counts twice and none is left out; it ends with the change of phase that is written in the same
//! transaction. While a sandbox runs, heartbeats move the end of its span: what passed since the
//! last one is all that a crash of the host can lose. Time never runs backwards here: a clock that
//! was set back makes spans of no length until it catches up.

use rclaude_types::{Phase, SessionId, TimeUsage, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Conn, Result, Tx,
    db::{label, queries},
};

/// How far awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Processes run, or are being started or stopped.
    Running,
    /// Processes stand still.
    Frozen,
    /// On the local disk alone.
    Hibernated,
    /// In the snapshot store alone.
    Archived,
}

impl Rung {
    /// How far awake a session in this phase is; `None` where there is nothing to count.
    pub const fn of(phase: Phase) -> Option<Self> {
        match phase {
            Phase::Starting
            | Phase::Running
            | Phase::Pausing
            | Phase::Hibernating
            | Phase::Resuming => Some(Self::Running),
            Phase::Paused => Some(Self::Frozen),
            Phase::Hibernated | Phase::Archiving => Some(Self::Hibernated),
            Phase::Archived => Some(Self::Archived),
            Phase::Pending | Phase::Destroying | Phase::Destroyed | Phase::Failed(_) => None,
        }
    }
}

queries! {
    OPEN = "SELECT rung, since, upto, storage_bytes FROM clock WHERE session = $1 AND open = 1";
    CLOSE = "UPDATE clock SET upto = max(upto, $2), open = 0 WHERE session = $1 AND open = 1";
    CLOSE_AS_IT_IS = "UPDATE clock SET open = 0 WHERE session = $1 AND open = 1";
    BEGIN = "INSERT INTO clock (session, rung, since, upto, storage_bytes, open) \
             VALUES ($1, $2, $3, $3, $4, 1)";
    BEAT = "UPDATE clock SET upto = max(upto, $2) WHERE session = $1 AND open = 1";
    SPANS = "SELECT rung, CAST(sum(upto - since) AS BIGINT) AS micros, \
             CAST(sum((upto - since) / 1000000.0 * storage_bytes) AS BIGINT) AS byte_seconds \
             FROM clock WHERE session = $1 GROUP BY rung";
    LAST = "SELECT max(upto) AS upto FROM clock WHERE session = $1";
}

/// The session's sandbox has moved from one phase to another.
///
/// A sandbox that was found ended (nobody had asked it to) ran at least until the last heartbeat;
/// the time after that is not counted as running.
pub(crate) async fn moved(
    tx: &mut Tx,
    session: &SessionId,
    from: Phase,
    to: Phase,
    at: Timestamp,
) -> Result<()> {
    let (before, after) = (Rung::of(from), Rung::of(to));
    if before == after {
        return Ok(());
    }
    let found_ended = matches!(
        (from, to),
        (
            Phase::Running | Phase::Starting | Phase::Pausing | Phase::Resuming | Phase::Paused,
            Phase::Hibernated | Phase::Failed(_)
        )
    ) && before == Some(Rung::Running);
    let storage = close(tx, session, (!found_ended).then_some(at)).await?;
    begin(tx, session, after, storage, at).await
}

/// Another sandbox takes the place of the session's: what it will be is counted once it is there.
pub(crate) async fn replaced(tx: &mut Tx, session: &SessionId, at: Timestamp) -> Result<()> {
    close(tx, session, Some(at)).await.map(drop)
}

/// Ends the open span, if there is one, at `at` or at its last heartbeat; answers what was stored
/// meanwhile.
async fn close(tx: &mut Tx, session: &SessionId, at: Option<Timestamp>) -> Result<i64> {
    let open = tx.first(OPEN, [session.into()]).await?;
    match at {
        Some(at) => tx.run(CLOSE, [session.into(), at.into()]).await?,
        None => tx.run(CLOSE_AS_IT_IS, [session.into()]).await?,
    };
    open.map_or(Ok(0), |row| row.get("storage_bytes"))
}

/// Begins a span where the last one ended, if there was one and something followed it at once.
async fn begin(
    tx: &mut Tx,
    session: &SessionId,
    rung: Option<Rung>,
    storage: i64,
    at: Timestamp,
) -> Result<()> {
    let Some(rung) = rung else { return Ok(()) };
    let last = tx.first(LAST, [session.into()]).await?;
    let last: Option<Timestamp> = last.map(|row| row.get("upto")).transpose()?.flatten();
    // Not before the last span's end, should the clock have been set back.
    let since = last.map_or(at, |last| last.max(at));
    let values = [session.into(), label(rung).into(), since.into(), storage.into()];
    tx.run(BEGIN, values).await?;
    Ok(())
}

/// These sessions are as they were: their open spans reach until now.
pub async fn beat(tx: &mut Tx, sessions: &[SessionId], at: Timestamp) -> Result<()> {
    for session in sessions {
        tx.run(BEAT, [session.into(), at.into()]).await?;
    }
    Ok(())
}

/// When the session was last known to be as its open span says; `None` if none is open.
pub async fn last_beat(conn: &mut Conn, session: &SessionId) -> Result<Option<Timestamp>> {
    conn.first(OPEN, [session.into()]).await?.map(|row| row.get("upto")).transpose()
}

/// The session now keeps so many bytes; from here on they are counted.
pub async fn keeps(tx: &mut Tx, session: &SessionId, bytes: u64, at: Timestamp) -> Result<()> {
    let Some(open) = tx.first(OPEN, [session.into()]).await? else { return Ok(()) };
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    if open.get::<i64>("storage_bytes")? == bytes {
        return Ok(());
    }
    let rung = open.word("rung")?;
    close(tx, session, Some(at)).await?;
    begin(tx, session, Some(rung), bytes, at).await
}

/// All of a session's time until now.
pub async fn usage(conn: &mut Conn, session: &SessionId, now: Timestamp) -> Result<TimeUsage> {
    let mut usage = TimeUsage::default();
    let mut add = |rung: Rung, micros: i64| match rung {
        Rung::Running => usage.running_micros += micros,
        Rung::Frozen => usage.frozen_micros += micros,
        Rung::Hibernated => usage.hibernated_micros += micros,
        Rung::Archived => usage.archived_micros += micros,
    };
    let mut byte_seconds = 0;
    for row in conn.all(SPANS, [session.into()]).await? {
        add(row.word("rung")?, row.get("micros")?);
        byte_seconds += row.get::<i64>("byte_seconds")?;
    }
    // Nothing beats for one that is set aside: it is so until it is something else.
    if let Some(open) = conn.first(OPEN, [session.into()]).await? {
        let (rung, upto) = (open.word("rung")?, open.get::<Timestamp>("upto")?);
        let since = (now.as_micros() - upto.as_micros()).max(0);
        if rung != Rung::Running {
            add(rung, since);
            byte_seconds += since / 1_000_000 * open.get::<i64>("storage_bytes")?;
        }
    }
    usage.storage_byte_seconds = byte_seconds;
    Ok(usage)
}
