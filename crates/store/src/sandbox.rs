//! Sandboxes: the incarnations of the machine a session runs on.

use std::fmt;

use rclaude_types::{Generation, LayerId, Phase, SandboxId, SessionId, Timestamp};

use crate::{
    Conn, Result, StoreError, Tx, clock,
    db::{Json, Row, queries},
};

/// A sandbox's row.
#[derive(Clone, PartialEq, Eq)]
pub struct SandboxRow {
    /// Its id, chosen before any provider was asked.
    pub id: SandboxId,
    /// Whose machine it is.
    pub session: SessionId,
    /// Which provider runs it, by its word.
    pub provider: String,
    /// The provider's name for it, once known.
    pub provider_ref: Option<String>,
    /// Where it is.
    pub phase: Phase,
    /// Counts changes of phase; a change names the one it read.
    pub generation: Generation,
    /// What its daemon is spoken to with.
    pub token: String,
    /// The sealed layers it started on, uppermost first.
    pub stack: Vec<LayerId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its phase last changed.
    pub updated_at: Timestamp,
}

impl fmt::Debug for SandboxRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxRow")
            .field("id", &self.id)
            .field("session", &self.session)
            .field("provider", &self.provider)
            .field("provider_ref", &self.provider_ref)
            .field("phase", &self.phase)
            .field("generation", &self.generation)
            .field("token", &"<redacted>")
            .field("stack", &self.stack)
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .finish()
    }
}

/// What a new sandbox is made with.
#[derive(Clone)]
pub struct NewSandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose machine it is.
    pub session: SessionId,
    /// Which provider is to run it, by its word.
    pub provider: String,
    /// What its daemon will be spoken to with.
    pub token: String,
    /// The sealed layers it is to start on, uppermost first.
    pub stack: Vec<LayerId>,
    /// Now.
    pub at: Timestamp,
}

impl fmt::Debug for NewSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSandbox")
            .field("id", &self.id)
            .field("session", &self.session)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

macro_rules! columns {
    () => {
        "id, session, provider, provider_ref, phase, generation, token, stack, created_at, updated_at"
    };
}

queries! {
    INSERT = "INSERT INTO sandbox (id, session, provider, phase, generation, token, stack, \
              created_at, updated_at) VALUES ($1, $2, $3, 'pending', 1, $4, $5, $6, $6)";
    GET = concat!("SELECT ", columns!(), " FROM sandbox WHERE id = $1");
    LAST_ID = "SELECT max(id) AS id FROM sandbox";
    CURRENT = concat!("SELECT ", columns!(), " FROM sandbox WHERE session = $1 \
               ORDER BY id DESC LIMIT 1");
    OF_SESSION = concat!("SELECT ", columns!(), " FROM sandbox WHERE session = $1 ORDER BY id DESC");
    TO_DESTROY = concat!("SELECT ", columns!(), " FROM sandbox WHERE phase <> 'destroyed' \
                  AND (phase = 'destroying' \
                    OR EXISTS (SELECT 1 FROM sandbox AS newer \
                               WHERE newer.session = sandbox.session AND newer.id > sandbox.id) \
                    OR EXISTS (SELECT 1 FROM session \
                               WHERE session.id = sandbox.session AND session.desired = 'deleted')) \
                  ORDER BY id");
    EXISTING_STACKS = "SELECT stack FROM sandbox WHERE phase <> 'destroyed' \
                       AND phase <> 'archived'";
    SET_PHASE = "UPDATE sandbox SET phase = $3, provider_ref = coalesce($4, provider_ref), \
                 generation = generation + 1, updated_at = $5 WHERE id = $1 AND generation = $2";
}

fn read(row: &Row) -> Result<SandboxRow> {
    Ok(SandboxRow {
        id: row.get("id")?,
        session: row.get("session")?,
        provider: row.get("provider")?,
        provider_ref: row.get("provider_ref")?,
        phase: row.get("phase")?,
        generation: row.get("generation")?,
        token: row.get("token")?,
        stack: row.get::<Json<_>>("stack")?.0,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Adds a sandbox that no provider was asked for yet. It is its session's current one.
pub async fn insert(tx: &mut Tx, new: &NewSandbox) -> Result<SandboxRow> {
    let values = [
        (&new.id).into(),
        (&new.session).into(),
        (&new.provider).into(),
        (&new.token).into(),
        Json(&new.stack).into(),
        new.at.into(),
    ];
    tx.run(INSERT, values).await?;
    clock::replaced(tx, &new.session, new.at).await?;
    get(tx, &new.id).await
}

/// The id that sorts last of all.
pub async fn last_id(conn: &mut Conn) -> Result<Option<SandboxId>> {
    conn.first(LAST_ID, []).await?.map_or(Ok(None), |row| row.get("id"))
}

/// A sandbox by its id.
pub async fn get(conn: &mut Conn, id: &SandboxId) -> Result<SandboxRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("sandbox", id))?)
}

/// A session's newest sandbox.
pub async fn current(conn: &mut Conn, session: &SessionId) -> Result<SandboxRow> {
    let row = conn.first(CURRENT, [session.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("sandbox of session", session))?)
}

/// All of a session's sandboxes, newest first.
pub async fn list(conn: &mut Conn, session: &SessionId) -> Result<Vec<SandboxRow>> {
    conn.all(OF_SESSION, [session.into()]).await?.iter().map(read).collect()
}

/// Sandboxes that may exist and should not: replaced by a newer one, of a session that is to be
/// deleted, or being ended. Oldest first.
pub async fn to_destroy(conn: &mut Conn) -> Result<Vec<SandboxRow>> {
    conn.all(TO_DESTROY, []).await?.iter().map(read).collect()
}

/// The layers that sandboxes which have a disk started on.
pub async fn layers_in_use(conn: &mut Conn) -> Result<Vec<LayerId>> {
    let mut layers = Vec::new();
    for row in conn.all(EXISTING_STACKS, []).await? {
        layers.extend(row.get::<Json<Vec<LayerId>>>("stack")?.0);
    }
    layers.sort();
    layers.dedup();
    Ok(layers)
}

/// Moves a sandbox on from the generation that was read, with the provider's name for it where
/// that was learnt. Fails with [`StoreError::Stale`] if somebody else moved it meanwhile, and
/// with [`StoreError::Impossible`] if the transition table has no such step.
pub async fn set_phase(
    tx: &mut Tx,
    id: &SandboxId,
    generation: Generation,
    next: Phase,
    provider_ref: Option<&str>,
    at: Timestamp,
) -> Result<SandboxRow> {
    let row = get(tx, id).await?;
    if row.generation != generation {
        return Err(StoreError::stale(generation, row.generation));
    }
    if !row.phase.can_become(next) {
        return Err(StoreError::Impossible { from: row.phase, to: next });
    }
    let values = [id.into(), generation.into(), next.into(), provider_ref.into(), at.into()];
    tx.run(SET_PHASE, values).await?;
    // The time of a sandbox that was replaced is its successor's.
    if current(tx, &row.session).await?.id == *id {
        clock::moved(tx, &row.session, row.phase, next, at).await?;
    }
    get(tx, id).await
}
