//! A session's rows as callers see them.

use rclaude_store::{
    Conn, approval, checkpoint,
    sandbox::{self, SandboxRow},
    session::SessionRow,
    turn::{self, TurnRow},
};
use rclaude_types::Session;

use crate::session::lifecycle;

/// Gathers what belongs to a session and shows it.
pub(super) async fn view(conn: &mut Conn, row: SessionRow) -> rclaude_store::Result<Session> {
    let sandbox = sandbox::current(conn, &row.id).await?;
    let turn = turn::open(conn, &row.id).await?;
    let asks = match &turn {
        Some(_) => approval::pending(conn, &row.id).await?,
        None => Vec::new(),
    };
    let latest = checkpoint::latest_id(conn, &row.id).await?;
    let approvals = asks.into_iter().map(|ask| ask.approval).collect();
    Ok(Session {
        pending_approvals: approvals,
        latest_checkpoint: latest,
        ..shown(row, sandbox, turn)
    })
}

fn shown(row: SessionRow, sandbox: SandboxRow, turn: Option<TurnRow>) -> Session {
    let settings = row.settings;
    let state = turn.as_ref().map(|turn| turn.turn.state);
    Session {
        status: lifecycle::status(row.desired, sandbox.phase, state),
        id: row.id,
        name: row.name,
        failure: row.failure,
        desired: row.desired,
        phase: sandbox.phase,
        phase_since: Some(sandbox.updated_at),
        sandbox: sandbox.id,
        repository: settings.repository,
        base_commit: row.base_commit,
        branch: row.branch,
        agent: settings.agent,
        model: settings.model,
        permission_mode: settings.permission_mode,
        env: settings.env.into_keys().collect(),
        resources: settings.resources,
        template: settings.template.unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned()),
        allow_root: settings.allow_root,
        labels: settings.labels,
        life: settings.life,
        desired_reason: row.desired_reason,
        origin: row.origin,
        latest_checkpoint: None,
        current_turn: turn.map(Into::into),
        pending_approvals: Vec::new(),
        cost: row.cost,
        last_seq: row.last_seq,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

/// What a session's system is made of where its owner did not say.
pub(in crate::session) const DEFAULT_TEMPLATE: &str = "host";
