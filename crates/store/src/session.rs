//! Sessions: what their owner asked for, and what was found out since.

use std::collections::BTreeMap;

use rclaude_types::{
    AgentKind, CreateSession, Desired, ExecId, Generation, LifePolicy, MicroUsd, Origin,
    PermissionMode, RepositorySource, Resources, Seq, SessionId, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
};

/// A session's row.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its name, unique among the sessions whose deletion was not asked for.
    pub name: String,
    /// What its owner wants.
    pub desired: Desired,
    /// Why, where that was not its owner's wish.
    pub desired_reason: Option<String>,
    /// Where it came from, if from another session.
    pub origin: Option<Origin>,
    /// The command that runs its setup script, once it was started.
    pub setup_exec: Option<ExecId>,
    /// Counts changes of name, settings and desired; a change of settings names the one it read.
    pub generation: Generation,
    /// What it is made of.
    pub settings: SessionSettings,
    /// The commit its work is compared with, once checked out.
    pub base_commit: Option<String>,
    /// The branch its work is on, once checked out.
    pub branch: Option<String>,
    /// What the checkout's maker wants back; opaque here.
    pub checkout: Option<Value>,
    /// Why it failed, in words, where it did.
    pub failure: Option<String>,
    /// The agent's own id of the conversation, to resume it by.
    pub agent_session_id: Option<String>,
    /// The last entry of its log; 0 before the first.
    pub last_seq: Seq,
    /// Cost so far.
    pub cost: MicroUsd,
    /// When it was made.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
    /// When the last of it was gone.
    pub deleted_at: Option<Timestamp>,
}

/// What a session is made of: its creator's wishes, without name and first prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionSettings {
    /// Where its files come from.
    pub repository: Option<RepositorySource>,
    /// Which coding program works in it.
    pub agent: AgentKind,
    /// The model; the agent's default if absent.
    pub model: Option<String>,
    /// What the agent may do without asking.
    pub permission_mode: PermissionMode,
    /// Environment of every process.
    pub env: BTreeMap<String, String>,
    /// What the sandbox may use.
    pub resources: Resources,
    /// What the sandbox's system is made of; the server's default if absent.
    pub template: Option<String>,
    /// Whether processes may run as the sandbox's root.
    pub allow_root: bool,
    /// Labels of the caller's.
    pub labels: BTreeMap<String, String>,
    /// A shell script to run before the first prompt.
    pub setup: Option<String>,
    /// When it is set aside by itself, and what is kept how often.
    pub life: LifePolicy,
    /// When `life` was set.
    pub life_since: Option<Timestamp>,
}

impl From<CreateSession> for SessionSettings {
    fn from(request: CreateSession) -> Self {
        let CreateSession {
            name: _,
            prompt: _,
            repository,
            agent,
            model,
            permission_mode,
            env,
            resources,
            template,
            allow_root,
            labels,
            setup,
            life,
        } = request;
        Self {
            repository,
            agent,
            model,
            permission_mode,
            env,
            resources,
            template,
            allow_root,
            labels,
            setup,
            life,
            life_since: None,
        }
    }
}

/// What a new session is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub settings: SessionSettings,
    /// Where it comes from, if from another session.
    pub origin: Option<Origin>,
    /// Now.
    pub at: Timestamp,
}

/// What a checkout came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkout {
    /// The commit that was checked out.
    pub base_commit: Option<String>,
    /// The branch the work is on.
    pub branch: Option<String>,
    /// What its maker wants back.
    pub info: Value,
}

/// Which page of sessions is wanted.
#[derive(Debug, Clone, Default)]
pub struct SessionPage {
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// Older than this one: the last of the page before.
    pub before: Option<SessionId>,
    /// At most so many.
    pub limit: u32,
}

/// How many sessions there are, by what is wanted of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionCounts {
    /// To be running.
    pub running: i64,
    /// To be set aside.
    pub paused: i64,
    /// Being deleted.
    pub deleting: i64,
    /// With a turn under way.
    pub working: i64,
}

macro_rules! columns {
    () => {
        "session.id, session.name, session.desired, session.generation, session.settings, \
         session.base_commit, session.branch, session.checkout, session.failure, \
         session.agent_session_id, session.last_seq, session.cost_micros, session.created_at, \
         session.updated_at, session.deleted_at, session.desired_reason, session.origin, \
         session.setup_exec"
    };
}

queries! {
    INSERT = "INSERT INTO session (id, name, desired, generation, settings, origin, \
              last_seq, cost_micros, created_at, updated_at) \
              VALUES ($1, $2, 'running', 1, $3, $4, 0, 0, $5, $5)";
    INSERT_LABEL = "INSERT INTO session_label (session, key, value) VALUES ($1, $2, $3)";
    DELETE_LABELS = "DELETE FROM session_label WHERE session = $1";
    NAME_HOLDER = "SELECT id FROM session WHERE name = $1 AND desired <> 'deleted'";
    GET = concat!("SELECT ", columns!(), " FROM session WHERE id = $1");
    // `$1` is the prefix, `$2` the first text beyond all that begin with it.
    BY_PREFIX = concat!("SELECT ", columns!(), " FROM session WHERE id >= $1 AND id < $2 \
                 AND desired <> 'deleted' ORDER BY id LIMIT 5");
    BY_NAME = concat!("SELECT ", columns!(), " FROM session WHERE name = $1 AND desired <> 'deleted'");
    PAGE = concat!("SELECT ", columns!(), " FROM session WHERE id < $1 AND desired <> 'deleted' \
            ORDER BY id DESC LIMIT $2");
    PAGE_LABELLED = concat!("SELECT ", columns!(), " FROM session \
                     JOIN session_label ON session_label.session = session.id \
                     WHERE session_label.key = $1 AND session_label.value = $2 AND session.id < $3 \
                     AND session.desired <> 'deleted' ORDER BY session.id DESC LIMIT $4");
    LIVE = concat!("SELECT ", columns!(), " FROM session WHERE deleted_at IS NULL ORDER BY id");
    COUNTS = "SELECT desired, count(*) AS sessions FROM session WHERE deleted_at IS NULL \
              GROUP BY desired";
    WORKING = "SELECT count(DISTINCT turn.session) AS sessions FROM turn \
               JOIN session ON session.id = turn.session \
               WHERE turn.state IN ('running', 'awaiting_input') AND session.deleted_at IS NULL \
               AND session.desired <> 'deleted' AND turn.state <> 'ended'";
    SET_DESIRED = "UPDATE session SET desired = $2, desired_reason = $3, \
                   generation = generation + 1, updated_at = $4 WHERE id = $1";
    UPDATE_SETTINGS = "UPDATE session SET name = $3, settings = $4, generation = generation + 1, \
                       updated_at = $5 WHERE id = $1 AND generation = $2";
    SET_FAILURE = "UPDATE session SET failure = $2, updated_at = $3 WHERE id = $1";
    SET_CHECKOUT = "UPDATE session SET base_commit = $2, branch = $3, checkout = $4, \
                    updated_at = $5 WHERE id = $1";
    SET_AGENT_SESSION = "UPDATE session SET agent_session_id = $2, updated_at = $3 WHERE id = $1";
    SET_SETUP = "UPDATE session SET setup_exec = $2, updated_at = $3 WHERE id = $1";
    MARK_DELETED = "UPDATE session SET desired = 'deleted', deleted_at = coalesce(deleted_at, $2), \
                    updated_at = $2 WHERE id = $1";
}

fn read(row: &Row) -> Result<SessionRow> {
    Ok(SessionRow {
        id: row.get("id")?,
        name: row.get("name")?,
        desired: row.word("desired")?,
        desired_reason: row.get("desired_reason")?,
        origin: row.get::<Option<Json<_>>>("origin")?.map(|json| json.0),
        setup_exec: row.get("setup_exec")?,
        generation: row.get("generation")?,
        settings: row.get::<Json<_>>("settings")?.0,
        base_commit: row.get("base_commit")?,
        branch: row.get("branch")?,
        checkout: row.get::<Option<Json<_>>>("checkout")?.map(|json| json.0),
        failure: row.get("failure")?,
        agent_session_id: row.get("agent_session_id")?,
        last_seq: row.get("last_seq")?,
        cost: row.get("cost_micros")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        deleted_at: row.get("deleted_at")?,
    })
}

/// Adds a session that is to run. Fails with [`StoreError::NameTaken`].
pub async fn insert(tx: &mut Tx, new: &NewSession) -> Result<SessionRow> {
    refuse_taken(tx, &new.name, &new.id).await?;
    let values = [
        (&new.id).into(),
        (&new.name).into(),
        Json(&new.settings).into(),
        new.origin.as_ref().map(Json).into(),
        new.at.into(),
    ];
    tx.run(INSERT, values).await?;
    insert_labels(tx, &new.id, &new.settings).await?;
    get(tx, &new.id).await
}

/// A session by its id, deleted ones included.
pub async fn get(conn: &mut Conn, id: &SessionId) -> Result<SessionRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("session", id))?)
}

/// A session whose deletion was not asked for, by name, id, or a prefix of an id that fits no
/// other (`ses_` and at least four digits). A name wins over a prefix. Fails with
/// [`StoreError::NotFound`] or [`StoreError::Ambiguous`].
pub async fn find_by_reference(conn: &mut Conn, reference: &str) -> Result<SessionRow> {
    if let Some(row) = conn.first(BY_NAME, [reference.into()]).await? {
        return read(&row);
    }
    let missing = || StoreError::not_found("session", &reference);
    let digits = reference.strip_prefix("ses_").ok_or_else(missing)?;
    if digits.len() < 4 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(missing());
    }
    let beyond = format!("{reference}g");
    let rows = conn.all(BY_PREFIX, [reference.into(), beyond.into()]).await?;
    match rows.as_slice() {
        [] => Err(missing()),
        [one] => read(one),
        several => Err(StoreError::Ambiguous {
            reference: reference.to_owned(),
            candidates: several.iter().map(|row| row.get("id")).collect::<Result<_>>()?,
        }),
    }
}

/// A page of the sessions whose deletion was not asked for, newest first.
pub async fn list(conn: &mut Conn, page: &SessionPage) -> Result<Vec<SessionRow>> {
    let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
    // Beyond every id: `t` follows `s`.
    let mut before = page.before.as_ref().map_or("t", SessionId::as_str).to_owned();
    let mut found = Vec::new();
    loop {
        let rows = match page.labels.first() {
            None => conn.all(PAGE, [before.as_str().into(), page.limit.into()]).await?,
            Some((key, value)) => {
                let values = [key.into(), value.into(), before.as_str().into(), page.limit.into()];
                conn.all(PAGE_LABELLED, values).await?
            }
        };
        let exhausted = rows.len() < wanted;
        for row in &rows {
            let row = read(row)?;
            row.id.as_str().clone_into(&mut before);
            let mut labels = page.labels.iter();
            if labels.all(|(key, value)| row.settings.labels.get(key) == Some(value)) {
                found.push(row);
            }
            if found.len() == wanted {
                return Ok(found);
            }
        }
        if exhausted {
            return Ok(found);
        }
    }
}

/// Every session that something is still to be done for, those being deleted included; oldest
/// first.
pub async fn list_live(conn: &mut Conn) -> Result<Vec<SessionRow>> {
    conn.all(LIVE, []).await?.iter().map(read).collect()
}

/// How many sessions there are.
pub async fn counts(conn: &mut Conn) -> Result<SessionCounts> {
    let mut counts = SessionCounts::default();
    for row in conn.all(COUNTS, []).await? {
        let sessions = row.get("sessions")?;
        match row.word("desired")? {
            Desired::Running => counts.running = sessions,
            Desired::Paused | Desired::Hibernated | Desired::Archived => counts.paused += sessions,
            Desired::Deleted => counts.deleting = sessions,
        }
    }
    if let Some(row) = conn.first(WORKING, []).await? {
        counts.working = row.get("sessions")?;
    }
    Ok(counts)
}

/// Notes what the owner wants, or what is wanted for a `reason` that is not theirs; wanting the
/// same again changes nothing. A deletion cannot be taken back: [`StoreError::Conflict`].
pub async fn set_desired(
    tx: &mut Tx,
    id: &SessionId,
    desired: Desired,
    reason: Option<&str>,
    at: Timestamp,
) -> Result<SessionRow> {
    let row = get(tx, id).await?;
    if row.desired == desired && row.desired_reason.as_deref() == reason {
        return Ok(row);
    }
    if row.desired == Desired::Deleted {
        return Err(StoreError::Conflict("the session is deleted".to_owned()));
    }
    tx.run(SET_DESIRED, [id.into(), label(desired).into(), reason.into(), at.into()]).await?;
    get(tx, id).await
}

/// Writes name and settings over those of the generation that was read. Fails with
/// [`StoreError::Stale`] or [`StoreError::NameTaken`].
pub async fn update_settings(
    tx: &mut Tx,
    id: &SessionId,
    generation: Generation,
    name: &str,
    settings: &SessionSettings,
    at: Timestamp,
) -> Result<SessionRow> {
    refuse_taken(tx, name, id).await?;
    let values = [id.into(), generation.into(), name.into(), Json(settings).into(), at.into()];
    if tx.run(UPDATE_SETTINGS, values).await? == 0 {
        return Err(StoreError::stale(generation, get(tx, id).await?.generation));
    }
    tx.run(DELETE_LABELS, [id.into()]).await?;
    insert_labels(tx, id, settings).await?;
    get(tx, id).await
}

/// Notes why the session failed, or that it no longer does.
pub async fn set_failure(
    tx: &mut Tx,
    id: &SessionId,
    failure: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    let changed = tx.run(SET_FAILURE, [id.into(), failure.into(), at.into()]).await?;
    found(changed, id)
}

/// Notes what the checkout came to.
pub async fn set_checkout(
    tx: &mut Tx,
    id: &SessionId,
    checkout: &Checkout,
    at: Timestamp,
) -> Result<()> {
    let values = [
        id.into(),
        checkout.base_commit.as_ref().into(),
        checkout.branch.as_ref().into(),
        Json(&checkout.info).into(),
        at.into(),
    ];
    let changed = tx.run(SET_CHECKOUT, values).await?;
    found(changed, id)
}

/// Notes the agent's own id of the conversation.
pub async fn set_agent_session(
    tx: &mut Tx,
    id: &SessionId,
    agent_session_id: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    let values = [id.into(), agent_session_id.into(), at.into()];
    let changed = tx.run(SET_AGENT_SESSION, values).await?;
    found(changed, id)
}

/// Notes which command runs the setup script.
pub async fn set_setup(
    tx: &mut Tx,
    id: &SessionId,
    exec: Option<&ExecId>,
    at: Timestamp,
) -> Result<()> {
    let changed = tx.run(SET_SETUP, [id.into(), exec.into(), at.into()]).await?;
    found(changed, id)
}

/// Notes that the last of it is gone. What was billed and said stays.
pub async fn mark_deleted(tx: &mut Tx, id: &SessionId, at: Timestamp) -> Result<()> {
    let changed = tx.run(MARK_DELETED, [id.into(), at.into()]).await?;
    found(changed, id)
}

fn found(changed: u64, id: &SessionId) -> Result<()> {
    if changed == 0 { Err(StoreError::not_found("session", id)) } else { Ok(()) }
}

/// Nobody else writes meanwhile, so looking first is as good as the index's refusal, and says
/// more.
async fn refuse_taken(tx: &mut Tx, name: &str, own: &SessionId) -> Result<()> {
    let holder = tx.first(NAME_HOLDER, [name.into()]).await?;
    match holder.map(|row| row.get::<SessionId>("id")).transpose()? {
        Some(holder) if holder != *own => Err(StoreError::NameTaken { name: name.to_owned() }),
        _ => Ok(()),
    }
}

async fn insert_labels(tx: &mut Tx, id: &SessionId, settings: &SessionSettings) -> Result<()> {
    for (key, value) in &settings.labels {
        tx.run(INSERT_LABEL, [id.into(), key.into(), value.into()]).await?;
    }
    Ok(())
}
