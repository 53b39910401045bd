//! Prompts: queueing, steering, cancelling, interrupting.

use rclaude_store::{Tx, agent as agent_rows, session, turn};
use rclaude_types::{
    CreateTurn, Desired, ErrorCode, EventBody, Page, Problem, Session, SessionId, Timestamp, Turn,
    TurnId, TurnOutcome,
};

use super::{
    Idempotency, Result, SessionManager,
    once::{self, Once},
    problems::{cursor, from_store},
};
use crate::{agent, crash, session::log::NewEvents};

impl SessionManager {
    /// Queues a prompt, or steers the turn under way. Wakes a session that is paused.
    pub async fn send(
        &self,
        id: &SessionId,
        request: CreateTurn,
        once: Option<Idempotency>,
    ) -> Result<Turn> {
        self.ready_for_prompts()?;
        self.refuse_spent(id).await?;
        let (session, now) = (id.clone(), self.engine.now());
        crash::point("before prompt");
        let made = self
            .engine
            .commit(id, async move |tx, log| {
                if let Some(before) = once::claim(tx, once.as_ref(), now).await? {
                    return Ok(before);
                }
                let row = session::get(tx, &session).await?;
                let link = agent_rows::get(tx, &session).await?;
                let steered = match (request.steer, link) {
                    (true, Some(link)) => turn::current(tx, &session).await?.map(|_| link.exec),
                    _ => None,
                };
                let (text, steer) = (request.text, steered.is_some());
                let id = queue(tx, log, &session, text.clone(), steer, now).await?;
                once::answer(tx, once.as_ref(), id.as_str()).await?;
                if let Some(exec) = steered {
                    let line = agent::adapter(row.settings.agent).prompt(&id, &text);
                    agent_rows::push_input(tx, &session, &exec, &line).await?;
                    turn::begin(tx, &id, now).await?;
                    log.push(Some(id.clone()), EventBody::TurnStarted {});
                }
                Ok(Once::Done(id))
            })
            .await
            .map_err(from_store)?;
        crash::point("after prompt");
        let turn = made.id()?;
        self.want(id, Desired::Running).await?;
        self.turn(id, &turn).await
    }

    /// A page of turns, oldest first; `given` is a cursor, the number of the last seen.
    pub async fn turns(
        &self,
        id: &SessionId,
        given: Option<String>,
        limit: u32,
    ) -> Result<Page<Turn>> {
        let after = cursor(given.as_deref())?.unwrap_or(0);
        let limit = limit.clamp(1, 200);
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let rows = turn::list(&mut conn, id, after, limit).await.map_err(from_store)?;
        let full = rows.len() == limit as usize;
        let next_cursor = rows.last().filter(|_| full).map(|row| row.turn.number.to_string());
        Ok(Page { data: rows.into_iter().map(Into::into).collect(), next_cursor })
    }

    /// One turn.
    pub async fn turn(&self, id: &SessionId, turn: &TurnId) -> Result<Turn> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = turn::get(&mut conn, turn).await.map_err(from_store)?;
        if row.turn.session == *id { Ok(row.into()) } else { Err(no_turn(turn)) }
    }

    /// Takes a queued turn out of the queue; one under way is a conflict (interrupt it).
    pub async fn cancel(&self, id: &SessionId, turn: &TurnId) -> Result<Turn> {
        self.turn(id, turn).await?;
        let (cancelled, now) = (turn.clone(), self.engine.now());
        let row = self
            .engine
            .commit(id, async move |tx, log| {
                let row = turn::cancel(tx, &cancelled, now).await?;
                log.push(Some(cancelled), ended(TurnOutcome::Cancelled));
                Ok(row)
            })
            .await
            .map_err(from_store)?;
        Ok(row.into())
    }

    /// Stops the turn under way, or takes the next out of the queue if none is; nothing to stop
    /// is fine.
    pub async fn interrupt(&self, id: &SessionId) -> Result<Session> {
        let (session, now) = (id.clone(), self.engine.now());
        let stopped = self
            .engine
            .commit(id, async move |tx, log| {
                let row = session::get(tx, &session).await?;
                let current = turn::current(tx, &session).await?.map(|row| row.turn.id);
                match (&current, agent_rows::get(tx, &session).await?) {
                    (Some(_), Some(link)) => {
                        let line = agent::adapter(row.settings.agent).interrupt("interrupt");
                        agent_rows::push_input(tx, &session, &link.exec, &line).await?;
                    }
                    (Some(_), None) => {}
                    (None, _) => {
                        if let Some(next) = turn::next_queued(tx, &session).await? {
                            turn::cancel(tx, &next.turn.id, now).await?;
                            log.push(Some(next.turn.id), ended(TurnOutcome::Cancelled));
                        }
                    }
                }
                Ok(current)
            })
            .await
            .map_err(from_store)?;
        let handle = self.handle(id).await?;
        if let Some(turn) = stopped {
            handle.interrupt(turn);
        }
        handle.nudge();
        self.get(id).await
    }
}

/// Adds a prompt to the session's queue, and says so in its log.
pub(super) async fn queue(
    tx: &mut Tx,
    log: &mut NewEvents,
    session: &SessionId,
    text: String,
    steer: bool,
    now: Timestamp,
) -> rclaude_store::Result<TurnId> {
    let turn = turn::NewTurn {
        id: TurnId::generate(),
        session: session.clone(),
        text,
        steer,
        input: serde_json::Value::Null,
        at: now,
    };
    turn::enqueue(tx, &turn).await?;
    log.push(Some(turn.id.clone()), EventBody::TurnQueued { text: turn.text, steer });
    Ok(turn.id)
}

fn ended(outcome: TurnOutcome) -> EventBody {
    EventBody::TurnEnded {
        outcome,
        failure: None,
        tokens: rclaude_types::TokenUsage::default(),
        cost: rclaude_types::MicroUsd::default(),
        diff: None,
    }
}

fn no_turn(turn: &TurnId) -> Problem {
    Problem::new(ErrorCode::TurnNotFound, format!("there is no turn {turn} in this session"))
}
