//! Checkpoints, and what is made of them: rewinds and forks.

use axum::{Json as Answer, extract::State, http::StatusCode};
use rclaude_types::{Checkpoint, CheckpointId, CreateCheckpoint, Fork, Page, Rewind, Session};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, JsonOnce, Named, Query, must_exist},
    page::PageQuery,
    problem::Result,
    sessions::{Created, created},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get))
        .routes(routes!(rewind))
        .routes(routes!(fork))
}

/// Keeps a session's whole state as it is now.
///
/// Answers once it is kept: files, conversation and environment at one position of the log. Work
/// goes on meanwhile, but for the moment in which the files are taken.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/checkpoints",
    operation_id = "create_checkpoint",
    tag = "checkpoints",
    request_body = CreateCheckpoint,
    responses(
        (status = 201, description = "The checkpoint.", body = Checkpoint,
            headers(("location" = String, description = "The checkpoint's path.")))
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    InSession(id): InSession,
    JsonOnce(request, once): JsonOnce<CreateCheckpoint>,
) -> Result<Created<Checkpoint>> {
    let made = api.sessions.checkpoint(&id, request, once).await?;
    Ok(created(format!("/v1/sessions/{id}/checkpoints/{}", made.id), made))
}

/// Lists checkpoints, newest first.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/checkpoints",
    operation_id = "list_checkpoints",
    tag = "checkpoints",
    params(PageQuery),
    responses((status = 200, description = "A page of checkpoints.", body = Page<Checkpoint>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(page): Query<PageQuery>,
) -> Result<Answer<Page<Checkpoint>>> {
    let checkpoints = api.sessions.checkpoints(&id, page.cursor, page.limit).await?;
    if checkpoints.data.is_empty() {
        must_exist(&api, &id).await?;
    }
    Ok(Answer(checkpoints))
}

/// Shows a checkpoint.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/checkpoints/{checkpoint}",
    operation_id = "get_checkpoint",
    tag = "checkpoints",
    responses((status = 200, description = "The checkpoint.", body = Checkpoint))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(checkpoint): Named<CheckpointId>,
) -> Result<Answer<Checkpoint>> {
    Ok(Answer(api.sessions.get_checkpoint(&id, &checkpoint).await?))
}

/// Takes a session back to an earlier state.
///
/// A turn under way ends as interrupted. What the session was before is kept as a checkpoint, so
/// that a rewind can be taken back like anything else.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/rewind",
    operation_id = "rewind_session",
    tag = "checkpoints",
    request_body = Rewind,
    responses((status = 200, description = "The state before.", body = Checkpoint))
)]
pub(super) async fn rewind(
    State(api): State<Api>,
    InSession(id): InSession,
    JsonOnce(request, once): JsonOnce<Rewind>,
) -> Result<Answer<Checkpoint>> {
    Ok(Answer(api.sessions.rewind(&id, request, once).await?))
}

/// Makes sessions of one of a session's states.
///
/// All of them, or none. The session itself goes on as it was.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/fork",
    operation_id = "fork_session",
    tag = "checkpoints",
    request_body = Fork,
    responses((status = 201, description = "The new sessions, all of them.", body = Page<Session>))
)]
pub(super) async fn fork(
    State(api): State<Api>,
    InSession(id): InSession,
    JsonOnce(request, once): JsonOnce<Fork>,
) -> Result<(StatusCode, Answer<Page<Session>>)> {
    let data = api.sessions.fork(&id, request, once).await?;
    Ok((StatusCode::CREATED, Answer(Page { data, next_cursor: None })))
}
