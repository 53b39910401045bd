//! Prompts: queueing, steering, cancelling, interrupting.

use rclaude_store::{agent as agent_rows, session, turn};
use rclaude_types::{
    CreateTurn, Desired, ErrorCode, EventBody, Page, Problem, Session, SessionId, Turn, TurnId,
    TurnOutcome,
};

use super::{
    Idempotency, Result, SessionManager,
    once::{self, Once},
    problems::from_store,
};
use crate::{agent, crash};

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
                let new = turn::NewTurn {
                    id: TurnId::generate(),
                    session: session.clone(),
                    text: request.text,
                    steer: steered.is_some(),
                    input: serde_json::Value::Null,
                    at: now,
                };
                turn::enqueue(tx, &new).await?;
                let (id, text, steer) = (new.id, new.text, new.steer);
                once::answer(tx, once.as_ref(), id.as_str()).await?;
                log.push(Some(id.clone()), EventBody::TurnQueued { text: text.clone(), steer });
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
        let turn = match made {
            Once::Done(turn) => turn,
            Once::Before(first) => first
                .parse()
                .map_err(|_| Problem::new(ErrorCode::Internal, "a stored id is damaged"))?,
            Once::Mismatch => return Err(once::mismatch()),
        };
        self.want(id, Desired::Running).await?;
        self.turn(id, &turn).await
    }

    /// A page of turns, oldest first; `cursor` is the number of the last seen.
    pub async fn turns(
        &self,
        id: &SessionId,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<Page<Turn>> {
        let after = match cursor.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => {
                return Err(Problem::new(
                    ErrorCode::InvalidRequest,
                    "cursor: give the next_cursor of the page before, or none for the first page",
                ));
            }
        };
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
