//! What sessions take up on disk, and giving room back.

use axum::{Extension, Json as Answer, extract::State};
use rclaude_types::{DiskUse, Prune, Pruned};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Api, extract::Json, problem::Result};
use crate::{auth::Principal, snapshots::space};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(disk_use)).routes(routes!(prune))
}

/// Shows what sessions take up on disk.
#[utoipa::path(
    get,
    path = "/v1/disk-use",
    operation_id = "get_disk_use",
    tag = "storage",
    responses((status = 200, description = "In all and by session.", body = DiskUse))
)]
pub(super) async fn disk_use(State(api): State<Api>) -> Result<Answer<DiskUse>> {
    Ok(Answer(space::disk_use(api.sessions.engine()).await?))
}

/// Drops old automatic checkpoints, and what nothing needs any more.
///
/// Needs the owner's token. A session's newest checkpoint stays, and so does what somebody asked
/// for by hand. A conflict while layers are being saved or restored.
#[utoipa::path(
    post,
    path = "/v1/prune",
    operation_id = "prune",
    tag = "storage",
    request_body = Prune,
    responses((status = 200, description = "What was dropped, or would be.", body = Pruned))
)]
pub(super) async fn prune(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    Json(request): Json<Prune>,
) -> Result<Answer<Pruned>> {
    caller.require_owner()?;
    let engine = api.sessions.engine().clone();
    // It goes on though the caller goes.
    let task = api.tasks.spawn(async move { space::prune(&engine, request).await });
    Ok(Answer(super::backups::finished(task).await?))
}
