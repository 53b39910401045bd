//! What agents asked their users, and the one answer each question got.

use std::collections::BTreeMap;

use rclaude_types::{Approval, ApprovalId, ApprovalState, Decision, SessionId, Timestamp, TurnId};
use serde_json::Value;

use crate::{
    Conn, Result, StoreError, Tx,
    db::{Json, Row, label, queries},
};

/// A question's row.
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalRow {
    /// The question as callers see it.
    pub approval: Approval,
    /// The agent's own id of its request, to answer it by.
    pub agent_request: String,
    /// What else the answer needs of the request; opaque here.
    pub agent_payload: Value,
    /// How it was answered, if a person answered it.
    pub decision: Option<Decision>,
}

macro_rules! columns {
    () => {
        "id, state, body, agent_request, agent_payload, decision, resolved_at"
    };
}

queries! {
    INSERT = "INSERT INTO approval (id, session, turn, state, body, agent_request, agent_payload, \
              created_at) VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7)";
    GET = concat!("SELECT ", columns!(), " FROM approval WHERE id = $1");
    BY_REQUEST = concat!("SELECT ", columns!(), " FROM approval WHERE session = $1 \
                  AND agent_request = $2 ORDER BY id DESC LIMIT 1");
    PENDING = concat!("SELECT ", columns!(), " FROM approval WHERE session = $1 \
               AND state = 'pending' ORDER BY id");
    PENDING_OF_TURN = concat!("SELECT ", columns!(), " FROM approval WHERE session = $1 \
                       AND state = 'pending' AND turn = $2 ORDER BY id");
    PENDING_COUNTS = "SELECT session, count(*) AS approvals FROM approval WHERE state = 'pending' \
                      GROUP BY session";
    RESOLVE = "UPDATE approval SET state = $2, decision = $3, resolved_at = $4 WHERE id = $1";
}

fn read(row: &Row) -> Result<ApprovalRow> {
    let Json(mut approval): Json<Approval> = row.get("body")?;
    approval.state = row.word("state")?;
    approval.resolved_at = row.get("resolved_at")?;
    Ok(ApprovalRow {
        approval,
        agent_request: row.get("agent_request")?,
        agent_payload: row.get::<Json<_>>("agent_payload")?.0,
        decision: row.get::<Option<Json<_>>>("decision")?.map(|json| json.0),
    })
}

/// Adds a question that waits for its answer, whatever state it says it is in.
pub async fn insert(
    tx: &mut Tx,
    approval: &Approval,
    agent_request: &str,
    agent_payload: &Value,
) -> Result<()> {
    let values = [
        (&approval.id).into(),
        (&approval.session).into(),
        approval.turn.as_ref().into(),
        Json(approval).into(),
        agent_request.into(),
        Json(agent_payload).into(),
        approval.created_at.into(),
    ];
    tx.run(INSERT, values).await.map(drop)
}

/// A question by its id.
pub async fn get(conn: &mut Conn, id: &ApprovalId) -> Result<ApprovalRow> {
    let row = conn.first(GET, [id.into()]).await?;
    read(&row.ok_or_else(|| StoreError::not_found("approval", id))?)
}

/// The newest question of a session under the agent's own id.
pub async fn find_by_agent_request(
    conn: &mut Conn,
    session: &SessionId,
    agent_request: &str,
) -> Result<Option<ApprovalRow>> {
    let row = conn.first(BY_REQUEST, [session.into(), agent_request.into()]).await?;
    row.as_ref().map(read).transpose()
}

/// What a session's agent waits for, oldest first.
pub async fn pending(conn: &mut Conn, session: &SessionId) -> Result<Vec<ApprovalRow>> {
    conn.all(PENDING, [session.into()]).await?.iter().map(read).collect()
}

/// How many questions wait, by session; sessions without any are left out.
pub async fn pending_counts(conn: &mut Conn) -> Result<BTreeMap<SessionId, i64>> {
    let rows = conn.all(PENDING_COUNTS, []).await?;
    rows.iter().map(|row| Ok((row.get("session")?, row.get("approvals")?))).collect()
}

/// Answers a question, once. Fails with [`StoreError::AlreadyResolved`], which carries the
/// answer it got.
pub async fn resolve(
    tx: &mut Tx,
    id: &ApprovalId,
    decision: &Decision,
    at: Timestamp,
) -> Result<ApprovalRow> {
    let row = get(tx, id).await?;
    if row.approval.state != ApprovalState::Pending {
        return Err(StoreError::AlreadyResolved(Box::new(row)));
    }
    let state = match decision {
        Decision::Allow { .. } => ApprovalState::Allowed,
        Decision::Deny { .. } => ApprovalState::Denied,
    };
    let values = [id.into(), label(state).into(), Json(decision).into(), at.into()];
    tx.run(RESOLVE, values).await?;
    get(tx, id).await
}

/// Takes back the questions of a session, or of one of its turns, that nobody answered. Answers
/// which those were.
pub async fn withdraw_pending(
    tx: &mut Tx,
    session: &SessionId,
    turn: Option<&TurnId>,
    at: Timestamp,
) -> Result<Vec<ApprovalId>> {
    let rows = match turn {
        Some(turn) => tx.all(PENDING_OF_TURN, [session.into(), turn.into()]).await?,
        None => tx.all(PENDING, [session.into()]).await?,
    };
    let mut withdrawn = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.get("id")?;
        withdraw(tx, &id, at).await?;
        withdrawn.push(id);
    }
    Ok(withdrawn)
}

/// Takes back one question; one that was answered stays so. Whether it was taken back.
pub async fn withdraw(tx: &mut Tx, id: &ApprovalId, at: Timestamp) -> Result<bool> {
    if get(tx, id).await?.approval.state != ApprovalState::Pending {
        return Ok(false);
    }
    let nobody: Option<String> = None;
    let values = [id.into(), label(ApprovalState::Withdrawn).into(), nobody.into(), at.into()];
    tx.run(RESOLVE, values).await.map(|changed| changed > 0)
}
