//! Backups: made, listed, tried.

use axum::{
    Extension, Json as Answer,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use rclaude_types::{Backup, BackupVerdict, CreateBackup, ErrorCode, Page, Problem, VerifyBackup};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{Json, JsonOnce, Query},
    problem::Result,
    validate::Validate,
};
use crate::auth::Principal;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(verify))
}

/// Where backups are.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Place {
    /// A directory on the server's host, or `s3://bucket/prefix`. Where the server's backups go if
    /// absent.
    #[param(min_length = 1, max_length = 4096)]
    at: Option<String>,
}

impl Validate for Place {
    fn validate(&self) -> Result<()> {
        CreateBackup { to: self.at.clone() }.validate()
    }
}

/// Makes a backup: the database and every session's files.
///
/// Needs the owner's token. Answers when it is done. A request that is given up goes on; repeated
/// with the same idempotency key it answers with the same backup.
#[utoipa::path(
    post,
    path = "/v1/backups",
    operation_id = "create_backup",
    tag = "storage",
    request_body = CreateBackup,
    responses((status = 201, description = "The backup.", body = Backup))
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    JsonOnce(request, once): JsonOnce<CreateBackup>,
) -> Result<Response> {
    caller.require_owner()?;
    let snapshots = api.sessions.engine().snapshots.clone();
    let (stopping, tasks) = (api.stopping.clone(), &api.tasks);
    let task = tasks.spawn(async move {
        let backup = snapshots.backup(request.to.as_deref(), once);
        stopping.run_until_cancelled(backup).await.unwrap_or_else(|| {
            let text = "the server is going down; the backup is not made";
            Err(Problem::new(ErrorCode::ShuttingDown, text))
        })
    });
    Ok((StatusCode::CREATED, Answer(finished(task).await?)).into_response())
}

/// Lists backups, newest first.
///
/// Needs the owner's token.
#[utoipa::path(
    get,
    path = "/v1/backups",
    operation_id = "list_backups",
    tag = "storage",
    params(Place),
    responses((status = 200, description = "All backups there, on one page.", body = Page<Backup>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    Query(place): Query<Place>,
) -> Result<Answer<Page<Backup>>> {
    caller.require_owner()?;
    let data = api.sessions.engine().snapshots.backups(place.at.as_deref()).await?;
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Restores a backup into a scratch place, and says what does not come back as it was saved.
///
/// Needs the owner's token.
#[utoipa::path(
    post,
    path = "/v1/backups/verify",
    operation_id = "verify_backup",
    tag = "storage",
    request_body = VerifyBackup,
    responses((status = 200, description = "What was found.", body = BackupVerdict))
)]
pub(super) async fn verify(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    Json(request): Json<VerifyBackup>,
) -> Result<Response> {
    caller.require_owner()?;
    let snapshots = &api.sessions.engine().snapshots;
    let verdict = snapshots.verify_backup(request.name.as_deref(), request.at.as_deref()).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Answer(verdict)).into_response())
}

/// What a task that outlives its request came to.
pub(super) async fn finished<T>(
    task: tokio::task::JoinHandle<std::result::Result<T, Problem>>,
) -> Result<T> {
    match task.await {
        Ok(outcome) => Ok(outcome?),
        Err(error) => {
            tracing::error!(%error, "a task ended early");
            Err(Problem::new(ErrorCode::Internal, "the server failed; its log says how").into())
        }
    }
}
