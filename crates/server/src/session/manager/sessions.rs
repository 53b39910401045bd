//! Sessions: making, finding, changing, setting aside and ending them.

use std::{sync::Arc, time::Duration};

use rclaude_sandbox::provider::ProviderKind;
use rclaude_store::{
    Conn, StoreError, Tx, clock, sandbox, session,
    session::{Checkout as CheckoutRow, NewSession, SessionPage, SessionRow, SessionSettings},
};
use rclaude_types::{
    CreateSession, Depth, Desired, ErrorCode, EventBody, LayerId, Page, PauseSession, Phase,
    Problem, SandboxId, Session, SessionId, Timestamp, UpdateSession,
};

use super::{
    Idempotency, Result, SessionFilter, SessionManager,
    once::{self, Once},
    problems::{cursor, from_store},
    turns,
    view::view,
};
use crate::{
    agent, crash,
    repo::{Checkout, PrepareOptions},
    session::{live::Handle, names, policy},
};

/// How long making a session waits for its repository. What is cached takes milliseconds, and a
/// mistake shows within that time too; what must be cloned goes on in the background.
const QUICK: Duration = Duration::from_secs(3);

impl SessionManager {
    /// Makes a session; with the same idempotency key answers with the first one.
    pub async fn create(
        &self,
        request: CreateSession,
        once: Option<Idempotency>,
    ) -> Result<Session> {
        let engine = &self.engine;
        if let Some(first) = self.made_before(once.as_ref()).await? {
            return self.get_by_text(&first).await;
        }
        if request.prompt.is_some() {
            self.ready_for_prompts()?;
        }
        if let Some(template) = &request.template {
            engine.provider.templates().iter().find(|known| *known == template).ok_or_else(
                || {
                    Problem::new(
                        ErrorCode::TemplateNotFound,
                        format!(
                            "there is no template {template:?}; there is {}",
                            engine.provider.templates().join(", ")
                        ),
                    )
                },
            )?;
        }
        self.room_for(1).await?;
        let name = self.name(request.name.as_deref()).await?;
        let checkout = self.quick_checkout(&request, &name).await?;
        let id = SessionId::generate();
        let now = engine.now();
        // Followers may come before the answer to this request is written.
        let mut new =
            New { id: id.clone(), name, request, checkout, now, provider: engine.provider.kind() };
        crash::point("before session");
        let made = loop {
            let (session, once) = (new.clone(), once.clone());
            let made = engine
                .commit(&id, async move |tx, log| {
                    if let Some(before) = once::claim(tx, once.as_ref(), now).await? {
                        return Ok(before);
                    }
                    let id = session.id.clone();
                    insert(tx, log, session).await?;
                    once::answer(tx, once.as_ref(), id.as_str()).await?;
                    Ok(Once::Done(()))
                })
                .await;
            match made {
                // Another request made up the same name in the same moment.
                Err(StoreError::NameTaken { .. }) if new.request.name.is_none() => {
                    new.name = self.name(None).await?;
                }
                made => break made.map_err(from_store)?,
            }
        };
        crash::point("after session");
        let id = match made {
            Once::Done(()) => id,
            Once::Before(first) => return self.get_by_text(&first).await,
            Once::Mismatch => return Err(once::mismatch()),
        };
        let mut conn = engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, &id).await.map_err(from_store)?;
        engine.wake(&id, row.last_seq);
        view(&mut conn, row).await.map_err(from_store)
    }

    /// A session by id, unique prefix of an id (at least `ses_` + 4), or name.
    pub async fn resolve(&self, reference: &str) -> Result<SessionId> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::find_by_reference(&mut conn, reference).await.map_err(from_store)?;
        Ok(row.id)
    }

    /// As callers see it.
    pub async fn get(&self, id: &SessionId) -> Result<Session> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let row = session::get(&mut conn, id).await.map_err(from_store)?;
        view(&mut conn, row).await.map_err(from_store)
    }

    async fn get_by_text(&self, id: &str) -> Result<Session> {
        self.get(&once::stored(id)?).await
    }

    /// A page, newest first.
    pub async fn list(&self, filter: SessionFilter) -> Result<Page<Session>> {
        let before = cursor(filter.cursor.as_deref())?;
        let limit = filter.limit.clamp(1, 200);
        let page = SessionPage { labels: filter.labels, before, limit };
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let rows = session::list(&mut conn, &page).await.map_err(from_store)?;
        let full = rows.len() == limit as usize;
        let next_cursor = rows.last().filter(|_| full).map(|row| row.id.to_string());
        let mut data = Vec::with_capacity(rows.len());
        for row in rows {
            data.push(view(&mut conn, row).await.map_err(from_store)?);
        }
        Ok(Page { data, next_cursor })
    }

    /// Name, model, permission mode. What the agent can change while it runs, it is told.
    pub async fn update(&self, id: &SessionId, change: UpdateSession) -> Result<Session> {
        let (session, now) = (id.clone(), self.engine.now());
        self.engine
            .commit(id, async move |tx, log| {
                let row = session::get(tx, &session).await?;
                let name = change.name.unwrap_or_else(|| row.name.clone());
                let adapter = agent::adapter(row.settings.agent);
                let mut settings = row.settings.clone();
                let mut lines = Vec::new();
                if let Some(model) = change.model.clone() {
                    lines.push(adapter.set_model("set-model", &model));
                    settings.model = Some(model);
                }
                if let Some(life) = change.life.clone() {
                    settings.life = life;
                    settings.life_since = Some(now);
                }
                if let Some(mode) = change.permission_mode {
                    lines.push(adapter.set_permission_mode("set-permission-mode", mode));
                    settings.permission_mode = mode;
                }
                session::update_settings(tx, &session, row.generation, &name, &settings, now)
                    .await?;
                if let Some(link) = rclaude_store::agent::get(tx, &session).await? {
                    for line in lines {
                        rclaude_store::agent::push_input(tx, &session, &link.exec, &line).await?;
                    }
                }
                if change.model.is_some() || change.permission_mode.is_some() {
                    let (model, permission_mode) = (change.model, change.permission_mode);
                    log.push(None, EventBody::SettingsChanged { model, permission_mode });
                }
                Ok(())
            })
            .await
            .map_err(from_store)?;
        self.handle(id).await?.nudge();
        self.get(id).await
    }

    /// Sets the session aside.
    pub async fn pause(&self, id: &SessionId, request: PauseSession) -> Result<Session> {
        let desired = match request.depth {
            Depth::Freeze => Desired::Paused,
            Depth::Hibernate => Desired::Hibernated,
            Depth::Archive if !self.engine.ladder().archive => {
                return Err(Problem::new(
                    ErrorCode::SnapshotsUnavailable,
                    "this server has no snapshot store to archive sessions in",
                ));
            }
            Depth::Archive => Desired::Archived,
        };
        self.want(id, desired).await?;
        self.get(id).await
    }

    /// Brings it back.
    pub async fn resume(&self, id: &SessionId) -> Result<Session> {
        self.want(id, Desired::Running).await?;
        self.get(id).await
    }

    /// Ends it and removes its files. Deleting twice is fine.
    pub async fn delete(&self, id: &SessionId) -> Result<()> {
        self.want(id, Desired::Deleted).await.map(drop)
    }

    /// Stores what the owner wants, and wakes the actor. A session whose sandbox could not be
    /// made gets another attempt when it is wanted running.
    pub(super) async fn want(&self, id: &SessionId, desired: Desired) -> Result<Arc<Handle>> {
        let (session, now) = (id.clone(), self.engine.now());
        let provider = self.engine.provider.kind();
        crash::point("before wish");
        let spent = self
            .engine
            .commit(id, async move |tx, _| {
                if desired == Desired::Running {
                    if let Some(word) = spent(tx, &session, now).await? {
                        return Ok(Some(word));
                    }
                    let row = session::set_desired(tx, &session, desired, None, now).await?;
                    second_chance(tx, &row, provider, now).await?;
                } else {
                    session::set_desired(tx, &session, desired, None, now).await?;
                }
                Ok(None)
            })
            .await
            .map_err(from_store)?;
        crash::point("after wish");
        if let Some(word) = spent {
            return Err(exhausted(word));
        }
        let handle = self.handle(id).await?;
        handle.active();
        handle.nudge();
        Ok(handle)
    }

    /// Refuses work for a session that has used up an allowance.
    pub(super) async fn refuse_spent(&self, id: &SessionId) -> Result<()> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let spent = spent(&mut conn, id, self.engine.now()).await.map_err(from_store)?;
        spent.map_or(Ok(()), |word| Err(exhausted(word)))
    }

    /// Refuses a prompt that could not be worked on.
    pub(super) fn ready_for_prompts(&self) -> Result<()> {
        if self.engine.agent().is_none() {
            return Err(Problem::new(
                ErrorCode::AgentNotInstalled,
                "Claude Code is not installed on the server; `rclaude init` installs it there",
            ));
        }
        if !self.engine.llm_ready {
            return Err(Problem::new(
                ErrorCode::LlmNotConfigured,
                "the server has no model API: start it with ANTHROPIC_API_KEY set, or with \
                 `rclaude serve --emulator` to try things out without one",
            ));
        }
        Ok(())
    }

    /// The name asked for if it is free, or one made up.
    pub(super) async fn name(&self, wanted: Option<&str>) -> Result<String> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let mut crowded = false;
        loop {
            let name = wanted.map_or_else(
                || names::suggest(uuid::Uuid::now_v7().as_u64_pair().1, crowded),
                str::to_owned,
            );
            match session::find_by_reference(&mut conn, &name).await {
                Err(StoreError::NotFound { .. }) => return Ok(name),
                Ok(_) | Err(StoreError::Ambiguous { .. }) if wanted.is_some() => {
                    return Err(from_store(StoreError::NameTaken { name }));
                }
                Ok(_) | Err(StoreError::Ambiguous { .. }) => crowded = true,
                Err(error) => return Err(from_store(error)),
            }
        }
    }

    /// The repository's checkout if it can be had at once, so that a wrong one is refused before
    /// anything is stored. `None` if it takes longer, or there is no repository.
    async fn quick_checkout(
        &self,
        request: &CreateSession,
        name: &str,
    ) -> Result<Option<Checkout>> {
        let Some(source) = &request.repository else { return Ok(None) };
        let options = PrepareOptions::new(name);
        let mut unheard = |_: &str| {};
        let prepare = self.engine.repos.prepare(source, &options, &mut unheard);
        match tokio::time::timeout(QUICK, prepare).await {
            Ok(checkout) => Ok(Some(checkout.map_err(Problem::from)?)),
            Err(_) => Ok(None),
        }
    }
}

/// A session to be made.
#[derive(Clone)]
struct New {
    id: SessionId,
    name: String,
    request: CreateSession,
    checkout: Option<Checkout>,
    now: Timestamp,
    provider: ProviderKind,
}

async fn insert(
    tx: &mut Tx,
    log: &mut crate::session::log::NewEvents,
    new: New,
) -> rclaude_store::Result<()> {
    let New { id, name, request, checkout, now, provider } = new;
    let prompt = request.prompt.clone();
    let settings = SessionSettings { life_since: Some(now), ..SessionSettings::from(request) };
    let origin = None;
    session::insert(
        tx,
        &NewSession { id: id.clone(), name: name.clone(), settings, origin, at: now },
    )
    .await?;
    log.push(None, EventBody::SessionCreated { name, origin: None });
    if let Some(checkout) = &checkout {
        session::set_checkout(tx, &id, &checkout_row(checkout), now).await?;
        for notice in &checkout.notices {
            log.notice(None, rclaude_types::NoticeLevel::Info, "repository", notice.clone());
        }
    }
    sandbox::insert(tx, &new_sandbox(&id, provider, Vec::new(), now)).await?;
    if let Some(prompt) = prompt {
        turns::queue(tx, log, &id, prompt.text, false, now).await?;
    }
    Ok(())
}

/// A checkout as it is stored with its session.
pub(in crate::session) fn checkout_row(checkout: &Checkout) -> CheckoutRow {
    CheckoutRow {
        base_commit: checkout.base_commit.clone(),
        branch: Some(checkout.branch.clone()),
        info: serde_json::to_value(checkout).expect("strings and lists of them"),
    }
}

/// A sandbox that nobody was asked for yet.
pub(in crate::session) fn new_sandbox(
    session: &SessionId,
    provider: ProviderKind,
    stack: Vec<LayerId>,
    now: Timestamp,
) -> sandbox::NewSandbox {
    sandbox::NewSandbox {
        id: SandboxId::generate(),
        session: session.clone(),
        provider: provider.as_str().to_owned(),
        token: crate::auth::random_hex(),
        stack,
        at: now,
    }
}

fn exhausted(word: &str) -> Problem {
    Problem::new(
        ErrorCode::AllowanceExhausted,
        format!("the session has used up its {word}; raise it with `rclaude set` to go on"),
    )
}

/// The allowance that a session has used up, by its word.
async fn spent(
    tx: &mut Conn,
    id: &SessionId,
    now: Timestamp,
) -> rclaude_store::Result<Option<&'static str>> {
    let row = session::get(tx, id).await?;
    let used = clock::usage(tx, id, now).await?;
    Ok(policy::exhausted(&row.settings.life, policy::elapsed(row.created_at, now), used))
}

/// Where the sandbox could not be made, another takes its place.
async fn second_chance(
    tx: &mut Tx,
    row: &SessionRow,
    provider: ProviderKind,
    now: Timestamp,
) -> rclaude_store::Result<()> {
    let failed = sandbox::current(tx, &row.id).await?;
    if matches!(failed.phase, Phase::Failed(reason) if !reason.is_worth_another()) {
        sandbox::insert(tx, &new_sandbox(&row.id, provider, failed.stack, now)).await?;
        session::set_failure(tx, &row.id, None, now).await?;
    }
    Ok(())
}
