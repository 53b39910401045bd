//! Sessions that come from another server.

use std::{collections::HashMap, sync::Arc};

use rclaude_store::{
    StoreError,
    carry::{self, CarriedTurn},
    checkpoint::{Position, SealedCheckpoint},
    sandbox,
    session::{self, NewSession, SessionSettings},
};
use rclaude_types::{
    ErrorCode, Event, LayerId, NoticeLevel, Origin, Problem, SealMethod, Session, SessionId,
    Timestamp, TurnId,
};

use super::{
    Idempotency, Result, SessionManager,
    once::{self, Once},
    problems::from_store,
    sessions::{checkout_row, new_sandbox},
    view::view,
};
use crate::{
    repo::Checkout,
    session::{checkpoint::went_on_from, engine::Engine},
};

/// A session as it is to be here.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// The name that was asked for.
    pub(crate) name: Option<String>,
    /// The name it had, to be used if it is free.
    pub(crate) suggested: String,
    /// What it was, and when.
    pub(crate) origin: Origin,
    pub(crate) exported_at: Timestamp,
    pub(crate) settings: SessionSettings,
    pub(crate) conversation: Option<String>,
    pub(crate) checkout: Option<Checkout>,
    pub(crate) method: SealMethod,
    pub(crate) turn: Option<TurnId>,
    pub(crate) turns: Vec<CarriedTurn>,
    pub(crate) log: Vec<Event>,
    /// Its files, as layers that are here; uppermost first.
    pub(crate) stack: Vec<LayerId>,
}

impl SessionManager {
    /// What all sessions are made of, for what concerns them all.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Takes in a session of another server, with its history, as a new one.
    pub(crate) async fn adopt(
        &self,
        adopted: Adopted,
        once: Option<Idempotency>,
    ) -> Result<Session> {
        let engine = &self.engine;
        self.room_for(1).await?;
        if let Some(template) = &adopted.settings.template
            && !engine.provider.templates().contains(&template.as_str())
        {
            return Err(Problem::new(
                ErrorCode::TemplateNotFound,
                format!(
                    "the session is made of {template:?}, which this server has not; it has {}",
                    engine.provider.templates().join(", ")
                ),
            ));
        }
        let name = match &adopted.name {
            // Whether it is free is for the transaction to say: it may be this very session's.
            Some(name) => name.clone(),
            None => match self.name(Some(&adopted.suggested)).await {
                Ok(name) => name,
                Err(_) => self.name(None).await?,
            },
        };
        let (id, now) = (SessionId::generate(), engine.now());
        let (session, provider) = (id.clone(), engine.provider.kind());
        let made = engine
            .commit(&id, async move |tx, log| {
                if let Some(before) = once::claim(tx, once.as_ref(), now).await? {
                    return Ok(before);
                }
                let Adopted { origin, mut settings, conversation, method, stack, .. } = adopted;
                settings.life_since = Some(now);
                let new = NewSession {
                    id: session.clone(),
                    name,
                    settings: settings.clone(),
                    origin: Some(origin.clone()),
                    at: now,
                };
                session::insert(tx, &new).await?;
                if let Some(checkout) = &adopted.checkout {
                    let row = checkout_row(checkout);
                    session::set_checkout(tx, &session, &row, now).await?;
                }
                session::set_agent_session(tx, &session, conversation.as_deref(), now).await?;
                // Ids are of one server: a session may come back to where it was exported.
                let fresh: HashMap<TurnId, TurnId> =
                    adopted.turns.iter().map(|t| (t.id.clone(), TurnId::generate())).collect();
                let mut undone = Vec::new();
                for mut turn in adopted.turns {
                    if let Some(id) = fresh.get(&turn.id) {
                        turn.id = id.clone();
                    }
                    if turn.undone {
                        undone.push(turn.number);
                    }
                    carry::put_turn(tx, &session, &turn, now).await?;
                }
                let renamed =
                    |turn: Option<TurnId>| turn.and_then(|turn| fresh.get(&turn).cloned());
                let mut events = adopted.log;
                for event in &mut events {
                    event.turn = renamed(event.turn.take());
                }
                carry::put_log(tx, &session, &events).await?;
                let at = adopted.exported_at;
                let text = format!("imported; it was session {} until {at}", origin.session);
                log.notice(None, NoticeLevel::Info, "imported", text);
                let first = new_sandbox(&session, provider, stack.clone(), now);
                sandbox::insert(tx, &first).await?;
                let sealed = SealedCheckpoint {
                    // The history, and the entry that ends it.
                    seq: i64::try_from(events.len()).unwrap_or(i64::MAX).saturating_add(1),
                    turn: renamed(adopted.turn),
                    sandbox: first.id,
                    stack,
                    position: Position { conversation, settings, undone, ..Position::default() },
                    method,
                    bytes: 0,
                    frozen_micros: 0,
                };
                went_on_from(tx, &session, &sealed, now).await?;
                once::answer(tx, once.as_ref(), session.as_str()).await?;
                Ok(Once::Done(session))
            })
            .await
            .map_err(|error| match error {
                // Two turns of one number, say.
                StoreError::Conflict(why) => Problem::new(
                    ErrorCode::ArchiveInvalid,
                    format!("the archive cannot be used: its history contradicts itself: {why}"),
                ),
                error => from_store(error),
            })?;
        let id: SessionId = made.id()?;
        let mut conn = engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, &id).await.map_err(from_store)?;
        engine.wake(&id, row.last_seq);
        view(&mut conn, row).await.map_err(from_store)
    }
}
