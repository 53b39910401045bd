//! One sandbox: looking at it, and ending it.

use std::time::Duration;

use axum::{Json as Answer, extract::State, http::StatusCode};
use rclaude_types::SessionId;

use super::{Sandbox, shape::Detailed};
use crate::{
    api::{Api, problem::Result},
    session::manager::leases::Lent,
};

/// How long a sandbox's daemon may take to say how large its disk is.
const DISK_WITHIN: Duration = Duration::from_secs(2);

pub(super) async fn get(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
) -> Result<Answer<Detailed>> {
    let lent = api.sessions.lent(&session).await?;
    let disk = disk(&api, &session, &lent).await;
    Ok(Answer(Detailed::of(&api, &session, &lent, disk)))
}

/// How large the disk of one that runs is.
async fn disk(api: &Api, session: &SessionId, lent: &Lent) -> Option<u64> {
    if !lent.is_running() {
        return None;
    }
    let ask = async { api.sessions.open(session).await.ok()?.client.metrics().await.ok() };
    let metrics = tokio::time::timeout(DISK_WITHIN, ask).await.ok()??;
    Some(metrics.disk_total_bytes)
}

/// Ends it; a second time there is none.
pub(super) async fn kill(State(api): State<Api>, Sandbox(session): Sandbox) -> Result<StatusCode> {
    api.sessions.lent(&session).await?;
    api.sessions.delete(&session).await?;
    api.e2b.desks.clear(&session);
    Ok(StatusCode::NO_CONTENT)
}
