//! The usage clock: how long each session was how far awake.
//!
//! A session's time is cut into spans. A span begins where the one before ended, so no moment
//! counts twice and none is left out; it ends with the change of phase that is written in the same
//! transaction. While a sandbox runs, heartbeats move the end of its span: what passed since the
//! last one is all that a crash of the host can lose: it counts as what was found afterwards. Time
//! never runs backwards here: a clock that was set back makes spans of no length until it catches
//! up.

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

/// For so long after the last heartbeat a sandbox is taken to have run when it is set aside on
/// purpose: longer than any way down takes, and little to be wrong by if a crash came between.
const WAY_DOWN: i64 = 60_000_000;

queries! {
    OPEN = "SELECT rung, since, upto, storage_bytes FROM clock WHERE session = $1 AND open = 1";
    CLOSE = "UPDATE clock SET upto = max(upto, $2), open = 0 WHERE session = $1 AND open = 1";
    BEGIN = "INSERT INTO clock (session, rung, since, upto, storage_bytes, open) \
             VALUES ($1, $2, $3, $3, $4, 1)";
    BEAT = "UPDATE clock SET upto = max(upto, $2) WHERE session = $1 AND open = 1";
    SPANS = "SELECT rung, CAST(sum(upto - since) AS BIGINT) AS micros, \
             CAST(sum((upto - since) / 1000000.0 * storage_bytes) AS BIGINT) AS byte_seconds \
             FROM clock WHERE session = $1 GROUP BY rung";
    LAST = "SELECT max(upto) AS upto FROM clock WHERE session = $1";
}

/// The session's sandbox has moved from one phase to another.
pub(crate) async fn moved(
    tx: &mut Tx,
    session: &SessionId,
    from: Phase,
    to: Phase,
    at: Timestamp,
) -> Result<()> {
    let (before, after) = (Rung::of(from), Rung::of(to));
    if before == after {
        // It was on its rung until now.
        return tx.run(BEAT, [session.into(), at.into()]).await.map(drop);
    }
    let closed = match open(tx, session).await? {
        Some(open) => Some(open.close(tx, session, open.seen(from, to, at)).await?),
        None => None,
    };
    let Some(rung) = after else { return Ok(()) };
    let (since, storage) = match closed {
        Some(closed) => (closed.upto, closed.storage),
        None => (not_before_the_last(tx, session, at).await?, 0),
    };
    begin(tx, session, rung, since, storage).await
}

/// Another sandbox takes the place of the session's: what it will be is counted once it is there.
pub(crate) async fn replaced(tx: &mut Tx, session: &SessionId, at: Timestamp) -> Result<()> {
    tx.run(CLOSE, [session.into(), at.into()]).await.map(drop)
}

/// A session's span that goes on.
struct Span {
    rung: Rung,
    upto: Timestamp,
    storage: i64,
}

impl Span {
    /// Until when it was so, now that another phase is written.
    ///
    /// A sandbox that was found ended or standing still (nobody had asked it to) ran until the
    /// last heartbeat as far as anybody knows.
    fn seen(&self, from: Phase, to: Phase, at: Timestamp) -> Timestamp {
        if self.rung != Rung::Running {
            return at;
        }
        match (from, to) {
            (_, Phase::Destroying) => at,
            (Phase::Pausing, Phase::Paused) | (Phase::Hibernating, Phase::Hibernated) => {
                at.min(Timestamp::from_micros(self.upto.as_micros() + WAY_DOWN))
            }
            _ => self.upto,
        }
    }

    /// Ends it; not before its last heartbeat, should the clock have been set back.
    async fn close(&self, tx: &mut Tx, session: &SessionId, at: Timestamp) -> Result<Self> {
        tx.run(CLOSE, [session.into(), at.into()]).await?;
        Ok(Self { upto: self.upto.max(at), ..*self })
    }
}

async fn open(conn: &mut Conn, session: &SessionId) -> Result<Option<Span>> {
    let Some(row) = conn.first(OPEN, [session.into()]).await? else { return Ok(None) };
    let (rung, upto, storage) = (row.word("rung")?, row.get("upto")?, row.get("storage_bytes")?);
    Ok(Some(Span { rung, upto, storage }))
}

async fn begin(
    tx: &mut Tx,
    session: &SessionId,
    rung: Rung,
    since: Timestamp,
    storage: i64,
) -> Result<()> {
    let values = [session.into(), label(rung).into(), since.into(), storage.into()];
    tx.run(BEGIN, values).await.map(drop)
}

/// Now, or the end of the last span, should the clock have been set back.
async fn not_before_the_last(tx: &mut Tx, session: &SessionId, at: Timestamp) -> Result<Timestamp> {
    let last = tx.first(LAST, [session.into()]).await?;
    let last: Option<Timestamp> = last.map(|row| row.get("upto")).transpose()?.flatten();
    Ok(last.map_or(at, |last| last.max(at)))
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
    Ok(open(conn, session).await?.map(|open| open.upto))
}

/// The session now keeps so many bytes; from here on they are counted.
pub async fn keeps(tx: &mut Tx, session: &SessionId, bytes: u64, at: Timestamp) -> Result<()> {
    let Some(open) = open(tx, session).await? else { return Ok(()) };
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    if open.storage == bytes {
        return Ok(());
    }
    let closed = open.close(tx, session, at).await?;
    begin(tx, session, open.rung, closed.upto, bytes).await
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
    if let Some(open) = open(conn, session).await?
        && open.rung != Rung::Running
    {
        let since = (now.as_micros() - open.upto.as_micros()).max(0);
        add(open.rung, since);
        let kept = i128::from(since) * i128::from(open.storage) / 1_000_000;
        byte_seconds += i64::try_from(kept).unwrap_or(i64::MAX);
    }
    usage.storage_byte_seconds = byte_seconds;
    Ok(usage)
}
