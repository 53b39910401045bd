//! Checkpoints: a session's states, wanted and sealed, and the layers the snapshot store holds.
//!
//! A checkpoint is first *wanted*: whoever asked for it finds it again after any crash, and the
//! session's actor makes it. *Sealed* it names layers that exist and never change.

use rclaude_types::{
    Checkpoint, CheckpointId, CheckpointKind, Generation, LayerId, Phase, RewindScope, SandboxId,
    SealMethod, Seq, SessionId, Timestamp, TurnId,
};
use serde::{Deserialize, Serialize};

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
    sandbox::SandboxRow,
    session::SessionSettings,
};

/// Where a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointState {
    /// Asked for.
    Wanted,
    /// Made.
    Sealed,
    /// Could not be made; the row says why.
    Failed,
}

/// What is to be done in the transaction that seals a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Sequel {
    /// Take the session back to an earlier state.
    Rewind {
        /// Which; how the session began if absent.
        to: Option<CheckpointId>,
        /// What of it.
        scope: RewindScope,
    },
}

/// Where a session's conversation and environment stood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// The agent's own id of the conversation.
    pub conversation: Option<String>,
    /// Bytes of the agent's standard output that the log includes.
    pub stdout_offset: u64,
    /// Bytes of its standard error.
    pub stderr_offset: u64,
    /// What the session was made of.
    pub settings: SessionSettings,
    /// The turns that had been taken back, by number.
    pub undone: Vec<i64>,
    /// How often its sandbox had changed its phase.
    pub generation: Generation,
}

/// A checkpoint's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// As callers see it; for one that is not sealed yet, method, bytes and times mean nothing.
    pub checkpoint: Checkpoint,
    /// Where it stands.
    pub state: CheckpointState,
    /// What is to be done once it is sealed.
    pub sequel: Option<Sequel>,
    /// Why it could not be made.
    pub failure: Option<String>,
    /// The sandbox whose state it is.
    pub sandbox: SandboxId,
    /// Its own layer.
    pub layer: LayerId,
    /// All layers it stands on, its own first.
    pub stack: Vec<LayerId>,
    /// Conversation and environment.
    pub position: Position,
}

impl CheckpointRow {
    /// Whether it is the state of this sandbox still, because nothing can have run there since.
    pub fn is_of(&self, sandbox: &SandboxRow) -> bool {
        let at_rest = matches!(
            sandbox.phase,
            Phase::Paused | Phase::Hibernated | Phase::Archiving | Phase::Archived
        );
        // Leaving for the snapshot store changes the phase and no file.
        let leaving = matches!(sandbox.phase, Phase::Archiving | Phase::Archived);
        self.sandbox == sandbox.id
            && at_rest
            && (self.position.generation == sandbox.generation || leaving)
    }
}

/// What a checkpoint is asked for with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// Its id.
    pub id: CheckpointId,
    /// Whose state.
    pub session: SessionId,
    /// Why.
    pub kind: CheckpointKind,
    /// Its maker's words.
    pub note: Option<String>,
    /// What is to be done once it is sealed.
    pub sequel: Option<Sequel>,
    /// The layer it will be.
    pub layer: LayerId,
    /// Now.
    pub at: Timestamp,
}

/// What sealing it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCheckpoint {
    /// The last entry of the log it includes.
    pub seq: Seq,
    /// The turn that had just ended, or was under way.
    pub turn: Option<TurnId>,
    /// The sandbox whose state it is.
    pub sandbox: SandboxId,
    /// All layers it stands on, its own first.
    pub stack: Vec<LayerId>,
    /// Conversation and environment.
    pub position: Position,
    /// How its files were taken.
    pub method: SealMethod,
    /// Bytes in its own layer.
    pub bytes: u64,
    /// How long processes stood still, in microseconds.
    pub frozen_micros: u64,
}

/// A layer that the snapshot store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// Which.
    pub id: LayerId,
    /// The snapshot store's name for it.
    pub snapshot: String,
    /// A digest of its whole tree.
    pub digest: String,
    /// Its bytes.
    pub bytes: u64,
}

macro_rules! columns {
    () => {
        "id, session, state, kind, note, sequel, failure, seq, turn, sandbox, layer, stack, \
         position, method, bytes, frozen_micros, stored, created_at"
    };
}

queries! {
    WANT = "INSERT INTO checkpoint (id, session, state, kind, note, sequel, seq, sandbox, layer, \
            stack, position, method, bytes, frozen_micros, stored, created_at) \
            VALUES ($1, $2, 'wanted', $3, $4, $5, 0, '', $6, '[]', '{}', 'copy', 0, 0, 0, $7)";
    SEAL = "UPDATE checkpoint SET state = 'sealed', seq = $2, turn = $3, sandbox = $4, stack = $5, \
            position = $6, method = $7, bytes = $8, frozen_micros = $9, sequel = NULL \
            WHERE id = $1 AND state = 'wanted'";
    FAIL = "UPDATE checkpoint SET state = 'failed', failure = $2, sequel = NULL \
            WHERE id = $1 AND state = 'wanted'";
    GET = concat!("SELECT ", columns!(), " FROM checkpoint WHERE id = $1");
    LAST_ID = "SELECT max(id) AS id FROM checkpoint";
    WANTED = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
              AND state = 'wanted' ORDER BY id LIMIT 1");
    LATEST = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
              AND state = 'sealed' ORDER BY id DESC LIMIT 1");
    LATEST_ID = "SELECT id FROM checkpoint WHERE session = $1 AND state = 'sealed' \
                 ORDER BY id DESC LIMIT 1";
    LATEST_OF_SANDBOX = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
              AND sandbox = $2 AND state = 'sealed' ORDER BY id DESC LIMIT 1");
    OF_SESSION = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
                  AND state = 'sealed' AND id < $2 ORDER BY id DESC LIMIT $3");
    BEFORE_TURN = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
                   AND state = 'sealed' AND seq < $2 ORDER BY seq DESC, id DESC LIMIT 1");
    UNSTORED = concat!("SELECT ", columns!(), " FROM checkpoint WHERE state = 'sealed' \
                AND stored = 0 ORDER BY id LIMIT $1");
    ALL_STACKS = "SELECT id, session, stored, stack FROM checkpoint WHERE state = 'sealed'";
    AUTOMATIC = concat!("SELECT ", columns!(), " FROM checkpoint WHERE session = $1 \
                 AND state = 'sealed' AND kind NOT IN ('manual', 'rewind', 'origin') \
                 ORDER BY id DESC LIMIT -1 OFFSET $2");
    REMOVE_OF_SESSION = "DELETE FROM checkpoint WHERE session = $1";
    WANTED_SEQUELS = "SELECT sequel FROM checkpoint WHERE state = 'wanted'";
    WANTED_LAYERS = "SELECT layer FROM checkpoint WHERE state = 'wanted'";
    SET_STORED = "UPDATE checkpoint SET stored = 1 WHERE id = $1";
    SET_UNSTORED = "UPDATE checkpoint SET stored = 0 WHERE id = $1";
    SET_STACK = "UPDATE checkpoint SET stack = $2, stored = 0 WHERE id = $1";
    REMOVE = "DELETE FROM checkpoint WHERE id = $1";
    PUT_LAYER = "INSERT INTO layer (id, snapshot, digest, bytes, created_at) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO UPDATE SET \
                 snapshot = excluded.snapshot, digest = excluded.digest, bytes = excluded.bytes";
    GET_LAYER = "SELECT id, snapshot, digest, bytes FROM layer WHERE id = $1";
    ALL_LAYERS = "SELECT id, snapshot, digest, bytes FROM layer";
    REMOVE_LAYER = "DELETE FROM layer WHERE id = $1";
}

fn read(row: &Row) -> Result<CheckpointRow> {
    Ok(CheckpointRow {
        checkpoint: Checkpoint {
            id: row.get("id")?,
            session: row.get("session")?,
            seq: row.get("seq")?,
            kind: row.word("kind")?,
            note: row.get("note")?,
            turn: row.get("turn")?,
            method: row.word("method")?,
            bytes: row.get("bytes")?,
            frozen_micros: row.get("frozen_micros")?,
            stored: row.get("stored")?,
            created_at: row.get("created_at")?,
        },
        state: row.word("state")?,
        sequel: row.get::<Option<Json<_>>>("sequel")?.map(|json| json.0),
        failure: row.get("failure")?,
        // An empty word stands for none yet.
        sandbox: row.get::<String>("sandbox")?.parse().unwrap_or_else(|_| SandboxId::generate()),
        layer: row.get("layer")?,
        stack: row.get::<Json<_>>("stack")?.0,
        position: row.get::<Json<_>>("position")?.0,
    })
}

/// Asks for a checkpoint.
pub async fn want(tx: &mut Tx, new: &NewCheckpoint) -> Result<()> {
    let values = [
        (&new.id).into(),
        (&new.session).into(),
        label(new.kind).into(),
        new.note.as_ref().into(),
        new.sequel.as_ref().map(Json).into(),
        (&new.layer).into(),
        new.at.into(),
    ];
    tx.run(WANT, values).await?;
    Ok(())
}

/// Notes that a wanted checkpoint is made. Fails with [`StoreError::Conflict`] if it is not wanted
/// any more.
pub async fn seal(
    tx: &mut Tx,
    id: &CheckpointId,
    sealed: &SealedCheckpoint,
) -> Result<CheckpointRow> {
    let values = [
        id.into(),
        sealed.seq.into(),
        sealed.turn.as_ref().into(),
        (&sealed.sandbox).into(),
        Json(&sealed.stack).into(),
        Json(&sealed.position).into(),
        label(sealed.method).into(),
        number(sealed.bytes),
        number(sealed.frozen_micros),
    ];
    if tx.run(SEAL, values).await? == 0 {
        return Err(StoreError::Conflict("the checkpoint is not wanted any more".to_owned()));
    }
    get(tx, id).await
}

fn number(value: u64) -> crate::db::Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// Notes that a wanted checkpoint cannot be made.
pub async fn fail(tx: &mut Tx, id: &CheckpointId, why: &str) -> Result<()> {
    tx.run(FAIL, [id.into(), why.into()]).await.map(drop)
}

/// The id that sorts last of all.
pub async fn last_id(conn: &mut Conn) -> Result<Option<CheckpointId>> {
    conn.first(LAST_ID, []).await?.map_or(Ok(None), |row| row.get("id"))
}

/// A checkpoint by its id.
pub async fn get(conn: &mut Conn, id: &CheckpointId) -> Result<CheckpointRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("checkpoint", id))?)
}

/// The oldest one of a session that is wanted.
pub async fn wanted(conn: &mut Conn, session: &SessionId) -> Result<Option<CheckpointRow>> {
    conn.first(WANTED, [session.into()]).await?.as_ref().map(read).transpose()
}

/// A session's newest.
pub async fn latest(conn: &mut Conn, session: &SessionId) -> Result<Option<CheckpointRow>> {
    conn.first(LATEST, [session.into()]).await?.as_ref().map(read).transpose()
}

/// A session's newest, by name alone.
pub async fn latest_id(conn: &mut Conn, session: &SessionId) -> Result<Option<CheckpointId>> {
    conn.first(LATEST_ID, [session.into()]).await?.map(|row| row.get("id")).transpose()
}

/// The newest one of what a sandbox was.
pub async fn latest_of_sandbox(
    conn: &mut Conn,
    session: &SessionId,
    sandbox: &SandboxId,
) -> Result<Option<CheckpointRow>> {
    let found = conn.first(LATEST_OF_SANDBOX, [session.into(), sandbox.into()]).await?;
    found.as_ref().map(read).transpose()
}

/// A page of a session's, newest first, older than `before`.
pub async fn list(
    conn: &mut Conn,
    session: &SessionId,
    before: Option<&CheckpointId>,
    limit: u32,
) -> Result<Vec<CheckpointRow>> {
    // Behind every id there is.
    let before = before.map_or("ckq", CheckpointId::as_str);
    let values = [session.into(), before.into(), i64::from(limit).into()];
    conn.all(OF_SESSION, values).await?.iter().map(read).collect()
}

/// The newest one that includes nothing of the log from `seq` on.
pub async fn before(
    conn: &mut Conn,
    session: &SessionId,
    seq: Seq,
) -> Result<Option<CheckpointRow>> {
    conn.first(BEFORE_TURN, [session.into(), seq.into()]).await?.as_ref().map(read).transpose()
}

/// Sealed ones that the snapshot store does not hold yet, oldest first.
pub async fn unstored(conn: &mut Conn, limit: u32) -> Result<Vec<CheckpointRow>> {
    conn.all(UNSTORED, [i64::from(limit).into()]).await?.iter().map(read).collect()
}

/// What a checkpoint keeps from being swept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Whose it is.
    pub session: SessionId,
    /// The snapshot store holds all of it.
    pub stored: bool,
    /// Its layers.
    pub layers: Vec<LayerId>,
}

/// The layers of all checkpoints.
pub async fn stacks(conn: &mut Conn) -> Result<Vec<Stack>> {
    let rows = conn.all(ALL_STACKS, []).await?;
    let read = |row: &Row| {
        Ok(Stack {
            id: row.get("id")?,
            session: row.get("session")?,
            stored: row.get("stored")?,
            layers: row.get::<Json<_>>("stack")?.0,
        })
    };
    rows.iter().map(read).collect()
}

/// The checkpoints that rewinds which are about to be made go back to.
pub async fn rewound_to(conn: &mut Conn) -> Result<Vec<CheckpointId>> {
    let mut found = Vec::new();
    for row in conn.all(WANTED_SEQUELS, []).await? {
        if let Some(Json(Sequel::Rewind { to: Some(to), .. })) = row.get("sequel")? {
            found.push(to);
        }
    }
    Ok(found)
}

/// The layers that are about to be.
pub async fn wanted_layers(conn: &mut Conn) -> Result<Vec<LayerId>> {
    conn.all(WANTED_LAYERS, []).await?.iter().map(|row| row.get("layer")).collect()
}

/// A session's automatic ones but for the newest `keep`, newest first.
pub async fn surplus(
    conn: &mut Conn,
    session: &SessionId,
    keep: u32,
) -> Result<Vec<CheckpointRow>> {
    let values = [session.into(), i64::from(keep).into()];
    conn.all(AUTOMATIC, values).await?.iter().map(read).collect()
}

/// Adds a sealed one that was never wanted: the state a session begins with.
pub async fn insert_sealed(
    tx: &mut Tx,
    new: &NewCheckpoint,
    sealed: &SealedCheckpoint,
) -> Result<CheckpointRow> {
    want(tx, new).await?;
    seal(tx, &new.id, sealed).await
}

/// Forgets all of a session's; their layers are the sweep's.
pub async fn remove_all(tx: &mut Tx, session: &SessionId) -> Result<()> {
    tx.run(REMOVE_OF_SESSION, [session.into()]).await.map(drop)
}

/// Notes that the snapshot store holds all of it.
pub async fn set_stored(tx: &mut Tx, id: &CheckpointId) -> Result<()> {
    tx.run(SET_STORED, [id.into()]).await.map(drop)
}

/// Notes that the snapshot store does not hold all of it any more.
pub async fn set_unstored(tx: &mut Tx, id: &CheckpointId) -> Result<()> {
    tx.run(SET_UNSTORED, [id.into()]).await.map(drop)
}

/// Notes that it stands on other layers that show the same.
pub async fn set_stack(tx: &mut Tx, id: &CheckpointId, stack: &[LayerId]) -> Result<()> {
    tx.run(SET_STACK, [id.into(), Json(stack).into()]).await.map(drop)
}

/// Forgets it; its layers are the sweep's.
pub async fn remove(tx: &mut Tx, id: &CheckpointId) -> Result<()> {
    tx.run(REMOVE, [id.into()]).await.map(drop)
}

/// Notes that the snapshot store holds a layer.
pub async fn put_layer(tx: &mut Tx, layer: &LayerRow, at: Timestamp) -> Result<()> {
    let values = [
        (&layer.id).into(),
        (&layer.snapshot).into(),
        (&layer.digest).into(),
        number(layer.bytes),
        at.into(),
    ];
    tx.run(PUT_LAYER, values).await.map(drop)
}

/// A layer, if the snapshot store holds it.
pub async fn stored_layer(conn: &mut Conn, id: &LayerId) -> Result<Option<LayerRow>> {
    conn.first(GET_LAYER, [id.into()]).await?.as_ref().map(read_layer).transpose()
}

/// All layers that the snapshot store holds.
pub async fn stored_layers(conn: &mut Conn) -> Result<Vec<LayerRow>> {
    conn.all(ALL_LAYERS, []).await?.iter().map(read_layer).collect()
}

/// Notes that the snapshot store holds it no longer.
pub async fn remove_layer(tx: &mut Tx, id: &LayerId) -> Result<()> {
    tx.run(REMOVE_LAYER, [id.into()]).await.map(drop)
}

fn read_layer(row: &Row) -> Result<LayerRow> {
    Ok(LayerRow {
        id: row.get("id")?,
        snapshot: row.get("snapshot")?,
        digest: row.get("digest")?,
        bytes: row.get("bytes")?,
    })
}
