//! Checkpoints, and what is made of them: rewinds and forks.

use std::time::Duration;

use rclaude_store::{
    StoreError, Tx,
    checkpoint::{
        self, CheckpointRow, CheckpointState, NewCheckpoint, Position, SealedCheckpoint, Sequel,
    },
    event, sandbox,
    session::{self, Checkout as CheckoutRow, NewSession, SessionRow},
    turn,
};
use rclaude_types::{
    Checkpoint, CheckpointId, CheckpointKind, CreateCheckpoint, Desired, ErrorCode, EventBody,
    Fork, Origin, Page, Problem, Rewind, Session, SessionId, Timestamp,
};

use super::{
    Idempotency, Result, SessionManager,
    once::{self, Once},
    problems::{self, from_store},
    sessions::new_sandbox,
    turns,
    view::view,
};
use crate::{
    crash,
    session::{
        checkpoint::{new_checkpoint, went_on_from},
        log::NewEvents,
    },
};

/// How long a checkpoint may take; one of a large workspace's first states has much to copy.
const SEALING: Duration = Duration::from_mins(10);
/// How often it is looked whether a checkpoint is made, if nothing else happens in the session.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl SessionManager {
    /// Keeps the session's whole state as it is now. Answers once that is done.
    pub async fn checkpoint(
        &self,
        id: &SessionId,
        request: CreateCheckpoint,
        once: Option<Idempotency>,
    ) -> Result<Checkpoint> {
        let row = self.seal(id, CheckpointKind::Manual, request.note, None, once).await?;
        Ok(row.checkpoint)
    }

    /// A page of its checkpoints, newest first; `given` is a cursor, the last seen.
    pub async fn checkpoints(
        &self,
        id: &SessionId,
        given: Option<String>,
        limit: u32,
    ) -> Result<Page<Checkpoint>> {
        let before: Option<CheckpointId> = problems::cursor(given.as_deref())?;
        let limit = limit.clamp(1, 200);
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let rows =
            checkpoint::list(&mut conn, id, before.as_ref(), limit).await.map_err(from_store)?;
        let full = rows.len() == limit as usize;
        let next_cursor = rows.last().filter(|_| full).map(|row| row.checkpoint.id.to_string());
        Ok(Page { data: rows.into_iter().map(|row| row.checkpoint).collect(), next_cursor })
    }

    /// One of its checkpoints.
    pub async fn get_checkpoint(
        &self,
        id: &SessionId,
        checkpoint: &CheckpointId,
    ) -> Result<Checkpoint> {
        Ok(self.checkpoint_of(id, checkpoint).await?.checkpoint)
    }

    /// Takes the session back to an earlier state. What it was before is kept as a checkpoint.
    /// Answers with that one.
    pub async fn rewind(
        &self,
        id: &SessionId,
        request: Rewind,
        once: Option<Idempotency>,
    ) -> Result<Checkpoint> {
        // What is made already is neither looked for nor counted again.
        let made = self.made_before(once.as_ref()).await?.is_some();
        let to = match (request.to, request.turns) {
            _ if made => None,
            (Some(_), Some(_)) => {
                let text = "give `to` or `turns`, not both";
                return Err(Problem::new(ErrorCode::InvalidRequest, text));
            }
            (Some(to), None) => Some(self.checkpoint_of(id, &to).await?.checkpoint.id),
            (None, turns) => self.before_turns(id, turns.unwrap_or(1)).await?,
        };
        let sequel = Sequel::Rewind { to, scope: request.scope };
        let row = self.seal(id, CheckpointKind::Rewind, None, Some(sequel), once).await?;
        Ok(row.checkpoint)
    }

    /// Makes sessions of one of its states.
    pub async fn fork(
        &self,
        id: &SessionId,
        request: Fork,
        once: Option<Idempotency>,
    ) -> Result<Vec<Session>> {
        if let Some(first) = self.made_before(once.as_ref()).await? {
            return self.forks(&first).await;
        }
        if request.prompt.is_some() {
            self.ready_for_prompts()?;
        }
        let count = request.count.unwrap_or(1);
        self.room_for(count).await?;
        let base = match &request.at {
            Some(at) => self.checkpoint_of(id, at).await?,
            None => self.present_state(id).await?,
        };
        let (parent, now) = (id.clone(), self.engine.now());
        let provider = self.engine.provider.kind();
        let ids: Vec<_> = (0..count).map(|_| SessionId::generate()).collect();
        let has_names = request.name.is_some();
        // One transaction: all of them, or none.
        crash::point("before fork");
        let done = loop {
            let names = self.names(request.name.as_deref(), count).await?;
            let (made, parent, once) = (ids.clone(), parent.clone(), once.clone());
            let (base, request) = (base.clone(), request.clone());
            let done = self
                .engine
                .commit(id, async move |tx, log| {
                    if let Some(before) = once::claim(tx, once.as_ref(), now).await? {
                        return Ok(before);
                    }
                    let row = session::get(tx, &parent).await?;
                    for (id, name) in made.iter().zip(names) {
                        let child = Child { id, name, row: &row, base: &base, request: &request };
                        child.insert(tx, provider, now).await?;
                        log.push(
                            None,
                            EventBody::Forked {
                                checkpoint: base.checkpoint.id.clone(),
                                session: id.clone(),
                            },
                        );
                    }
                    let all: Vec<_> = made.iter().map(SessionId::as_str).collect();
                    once::answer(tx, once.as_ref(), &all.join(" ")).await?;
                    Ok(Once::Done(()))
                })
                .await;
            match done {
                // Another request made up the same name in the same moment.
                Err(StoreError::NameTaken { .. }) if !has_names => {}
                done => break done.map_err(from_store)?,
            }
        };
        crash::point("after fork");
        match done {
            Once::Done(()) => self.woken(ids).await,
            Once::Before(first) => self.forks(&first).await,
            Once::Mismatch => Err(once::mismatch()),
        }
    }

    /// Names for so many forks: numbered ones, or as many made up, all different.
    async fn names(&self, wanted: Option<&str>, count: u32) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for number in 1..=count {
            let wanted = wanted.map(|name| match count {
                1 => name.to_owned(),
                _ => format!("{name}-{number}"),
            });
            let mut name = self.name(wanted.as_deref()).await?;
            while wanted.is_none() && names.contains(&name) {
                name = self.name(None).await?;
            }
            names.push(name);
        }
        Ok(names)
    }

    /// The forks that a request made before, as its answer was stored.
    async fn forks(&self, made: &str) -> Result<Vec<Session>> {
        self.woken(made.split(' ').filter_map(|id| id.parse().ok()).collect()).await
    }

    /// New sessions, each with its actor.
    async fn woken(&self, ids: Vec<SessionId>) -> Result<Vec<Session>> {
        let mut sessions = Vec::new();
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        for id in ids {
            let row = session::get(&mut conn, &id).await.map_err(from_store)?;
            self.engine.wake(&id, row.last_seq);
            sessions.push(view(&mut conn, row).await.map_err(from_store)?);
        }
        Ok(sessions)
    }

    /// A checkpoint of this session.
    pub(super) async fn checkpoint_of(
        &self,
        id: &SessionId,
        checkpoint: &CheckpointId,
    ) -> Result<CheckpointRow> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = checkpoint::get(&mut conn, checkpoint).await;
        match row {
            Ok(row) if row.checkpoint.session == *id && row.state == CheckpointState::Sealed => {
                Ok(row)
            }
            Ok(_) | Err(StoreError::NotFound { .. }) => Err(Problem::new(
                ErrorCode::CheckpointNotFound,
                format!(
                    "the session has no checkpoint {checkpoint}; `rclaude checkpoints` lists those \
                     it has"
                ),
            )),
            Err(error) => Err(from_store(error)),
        }
    }

    /// The state before the last `count` turns that began; `None` is how the session began.
    async fn before_turns(&self, id: &SessionId, count: u32) -> Result<Option<CheckpointId>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let turns = turn::last_begun(&mut conn, id, count).await.map_err(from_store)?;
        let Some(first) = turns.last().filter(|_| turns.len() == count as usize) else {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                format!("turns: the session has had {} so far, fewer than {count}", turns.len()),
            ));
        };
        let began = event::turn_started(&mut conn, id, first).await.map_err(from_store)?;
        let began = began.unwrap_or_default();
        let before = checkpoint::before(&mut conn, id, began).await.map_err(from_store)?;
        Ok(before.map(|row| row.checkpoint.id))
    }

    /// A checkpoint of the state the session is in: one that is there if nothing can have changed
    /// since, or a new one.
    pub(crate) async fn present_state(&self, id: &SessionId) -> Result<CheckpointRow> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let current = sandbox::current(&mut conn, id).await.map_err(from_store)?;
        let latest = checkpoint::latest(&mut conn, id).await.map_err(from_store)?;
        drop(conn);
        match latest {
            Some(row) if row.is_of(&current) => Ok(row),
            _ => self.seal(id, CheckpointKind::Fork, None, None, None).await,
        }
    }

    /// Has the actor make a checkpoint, and waits for it.
    pub(super) async fn seal(
        &self,
        id: &SessionId,
        kind: CheckpointKind,
        note: Option<String>,
        sequel: Option<Sequel>,
        once: Option<Idempotency>,
    ) -> Result<CheckpointRow> {
        if self.engine.provider.layering().is_none() {
            let text = "this provider cannot keep states of a sandbox";
            return Err(Problem::new(ErrorCode::HostUnsupported, text));
        }
        self.standing(id).await.map(drop)?;
        let now = self.engine.now();
        let new = NewCheckpoint { note, sequel, ..new_checkpoint(id, kind, now) };
        crash::point("before want");
        let asked = self
            .engine
            .commit_aside(id, async move |tx, _| {
                if let Some(before) = once::claim(tx, once.as_ref(), now).await? {
                    return Ok(before);
                }
                if session::get(tx, &new.session).await?.desired == Desired::Deleted {
                    return Err(StoreError::not_found("session", &new.session));
                }
                checkpoint::want(tx, &new).await?;
                once::answer(tx, once.as_ref(), new.id.as_str()).await?;
                Ok(Once::Done(new.id))
            })
            .await
            .map_err(from_store)?;
        crash::point("after want");
        let wanted: CheckpointId = asked.id()?;
        let handle = self.handle(id).await?;
        handle.nudge();
        let mut news = handle.last_seq();
        drop(handle);
        let made = async {
            loop {
                news.borrow_and_update();
                let mut conn = self.engine.store.read().await.map_err(from_store)?;
                let row = checkpoint::get(&mut conn, &wanted).await.map_err(from_store)?;
                drop(conn);
                match row.state {
                    CheckpointState::Sealed => return Ok(row),
                    CheckpointState::Failed => {
                        let why = row.failure.unwrap_or_else(|| "it could not be made".to_owned());
                        return Err(Problem::new(ErrorCode::Conflict, why));
                    }
                    CheckpointState::Wanted => self.standing(id).await.map(drop)?,
                }
                let _ = tokio::time::timeout(LOOK_AGAIN, news.changed()).await;
            }
        };
        tokio::time::timeout(SEALING, made).await.unwrap_or_else(|_| {
            let text = "the checkpoint is not made yet; it goes on by itself";
            Err(Problem::new(ErrorCode::SandboxUnavailable, text))
        })
    }

    /// Refuses more sessions than there may be.
    pub(super) async fn room_for(&self, more: u32) -> Result<()> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let counts = session::counts(&mut conn).await.map_err(from_store)?;
        let (there, most) = (counts.running + counts.paused, self.engine.policy.sessions);
        if there + i64::from(more) > i64::from(most) {
            return Err(Problem::new(
                ErrorCode::QuotaExceeded,
                format!(
                    "there are {there} sessions and may be {most}; remove some with `rclaude rm`, \
                     or have the server allow more"
                ),
            ));
        }
        Ok(())
    }
}

/// A session to be made of another one's state.
struct Child<'a> {
    id: &'a SessionId,
    name: String,
    row: &'a SessionRow,
    base: &'a CheckpointRow,
    request: &'a Fork,
}

impl Child<'_> {
    async fn insert(
        self,
        tx: &mut Tx,
        provider: rclaude_sandbox::provider::ProviderKind,
        now: Timestamp,
    ) -> rclaude_store::Result<()> {
        let Child { id, name, row, base, request } = self;
        let mut settings = row.settings.clone();
        settings.env.clone_from(&base.position.settings.env);
        settings.life_since = Some(now);
        // What it installed is among the files.
        settings.setup = None;
        if let Some(model) = &request.model {
            settings.model = Some(model.clone());
        }
        let origin =
            Some(Origin { session: row.id.clone(), checkpoint: base.checkpoint.id.clone() });
        let new = NewSession {
            id: id.clone(),
            name: name.clone(),
            settings,
            origin: origin.clone(),
            at: now,
        };
        session::insert(tx, &new).await?;
        if let Some(info) = &row.checkout {
            let checkout = CheckoutRow {
                base_commit: row.base_commit.clone(),
                branch: row.branch.clone(),
                info: info.clone(),
            };
            session::set_checkout(tx, id, &checkout, now).await?;
        }
        session::set_agent_session(tx, id, base.position.conversation.as_deref(), now).await?;
        let first = new_sandbox(id, provider, base.stack.clone(), now);
        sandbox::insert(tx, &first).await?;
        let mut log = NewEvents::default();
        log.push(None, EventBody::SessionCreated { name, origin });
        if let Some(prompt) = &request.prompt {
            turns::queue(tx, &mut log, id, prompt.text.clone(), false, now).await?;
        }
        let (seq, _) = event::append(tx, id, now, log.entries()).await?;
        let sealed = SealedCheckpoint {
            seq,
            turn: None,
            sandbox: first.id,
            stack: base.stack.clone(),
            position: Position { undone: Vec::new(), ..base.position.clone() },
            method: base.checkpoint.method,
            bytes: 0,
            frozen_micros: 0,
        };
        went_on_from(tx, id, &sealed, now).await
    }
}
