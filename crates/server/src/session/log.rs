//! Writing: every change of a session is one transaction that also tells its log.

use rclaude_store::{Conn, Result, StoreError, Tx, approval, event, sandbox, session, turn};
use rclaude_types::{
    ApprovalState, EventBody, NoticeLevel, SessionId, SessionStatus, Timestamp, TurnId,
};

use super::{engine::Engine, lifecycle};

/// Entries that a transaction adds to the log, in order.
#[derive(Debug, Default)]
pub(super) struct NewEvents(Vec<(Option<TurnId>, EventBody)>);

impl NewEvents {
    /// Adds an entry.
    pub(super) fn push(&mut self, turn: Option<TurnId>, body: EventBody) {
        self.0.push((turn, body));
    }

    /// What was added so far.
    pub(super) fn entries(&self) -> &[(Option<TurnId>, EventBody)] {
        &self.0
    }

    /// Adds something the session's owner should know.
    pub(super) fn notice(
        &mut self,
        turn: Option<TurnId>,
        level: NoticeLevel,
        code: &str,
        message: impl Into<String>,
    ) {
        let (code, message) = (code.to_owned(), message.into());
        self.push(turn, EventBody::Notice { level, code, message });
    }
}

impl Engine {
    /// Does `work` in one transaction with the log entries it adds. Where the session's shown
    /// status is another afterwards, an entry says so. Followers are told once it is on disk.
    pub(super) async fn commit<T, F>(&self, id: &SessionId, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx, &mut NewEvents) -> Result<T> + Send + 'static,
    {
        let session = id.clone();
        let watched = async move |tx: &mut Tx, log: &mut NewEvents| {
            let before = shown(tx, &session).await?;
            let value = work(tx, log).await?;
            let after = shown(tx, &session).await?;
            if let Some(status) = after
                && before.is_some()
                && before != after
            {
                log.push(None, EventBody::StatusChanged { status, reason: None });
            }
            Ok(value)
        };
        self.commit_aside(id, watched).await
    }

    /// The same for work that leaves sandbox and turns as they are: the status cannot be another,
    /// and is not looked up.
    pub(super) async fn commit_aside<T, F>(&self, id: &SessionId, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx, &mut NewEvents) -> Result<T> + Send + 'static,
    {
        let (session, now) = (id.clone(), self.now());
        let (value, last) = self
            .store
            .write(async move |tx: &mut Tx| {
                let mut log = NewEvents::default();
                let value = work(tx, &mut log).await?;
                let last = if log.0.is_empty() {
                    None
                } else {
                    Some(event::append(tx, &session, now, &log.0).await?.1)
                };
                Ok((value, last))
            })
            .await?;
        if let (Some(last), Some(handle)) = (last, self.live.get(id)) {
            handle.publish(last);
        }
        Ok(value)
    }
}

/// The status callers see, as the rows stand; `None` for a session that does not exist.
pub(super) async fn shown(conn: &mut Conn, id: &SessionId) -> Result<Option<SessionStatus>> {
    let row = match session::get(conn, id).await {
        Ok(row) => row,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let phase = match sandbox::current(conn, id).await {
        Ok(sandbox) => sandbox.phase,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let turn = turn::open(conn, id).await?.map(|row| row.turn.state);
    Ok(Some(lifecycle::status(row.desired, phase, turn)))
}

/// Withdraws whatever the agent still waits for, and says so in the log.
pub(super) async fn withdraw_asks(
    tx: &mut Tx,
    log: &mut NewEvents,
    session: &SessionId,
    turn: Option<&TurnId>,
    now: Timestamp,
) -> Result<()> {
    for id in approval::withdraw_pending(tx, session, None, now).await? {
        let state = ApprovalState::Withdrawn;
        log.push(turn.cloned(), EventBody::ApprovalResolved { id, state, message: None });
    }
    Ok(())
}
