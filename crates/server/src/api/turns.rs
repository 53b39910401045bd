//! Turns: prompts and what became of them.

use axum::{Json as Answer, extract::State};
use rclaude_types::{CreateTurn, Page, Turn, TurnId};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, JsonOnce, Named, Query, must_exist},
    page::PageQuery,
    problem::Result,
    sessions::{Created, created},
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(get, cancel))
}

/// Sends a prompt.
///
/// It waits its turn in the session's queue, or, with `steer`, is said to the turn under way. A
/// paused session wakes for it.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/turns",
    operation_id = "create_turn",
    tag = "turns",
    request_body = CreateTurn,
    responses(
        (status = 201, description = "The turn, queued.", body = Turn,
            headers(("location" = String, description = "The turn's path.")))
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    InSession(id): InSession,
    JsonOnce(turn, once): JsonOnce<CreateTurn>,
) -> Result<Created<Turn>> {
    let turn = api.sessions.send(&id, turn, once).await?;
    Ok(created(format!("/v1/sessions/{id}/turns/{}", turn.id), turn))
}

/// Lists turns, oldest first.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/turns",
    operation_id = "list_turns",
    tag = "turns",
    params(PageQuery),
    responses((status = 200, description = "A page of turns.", body = Page<Turn>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(page): Query<PageQuery>,
) -> Result<Answer<Page<Turn>>> {
    let turns = api.sessions.turns(&id, page.cursor, page.limit).await?;
    if turns.data.is_empty() {
        must_exist(&api, &id).await?;
    }
    Ok(Answer(turns))
}

/// Shows a turn.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/turns/{turn}",
    operation_id = "get_turn",
    tag = "turns",
    responses((status = 200, description = "The turn.", body = Turn))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(turn): Named<TurnId>,
) -> Result<Answer<Turn>> {
    Ok(Answer(api.sessions.turn(&id, &turn).await?))
}

/// Takes a turn out of the queue.
///
/// A turn under way is a conflict: interrupt the session instead.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{session}/turns/{turn}",
    operation_id = "cancel_turn",
    tag = "turns",
    responses((status = 200, description = "The turn, cancelled.", body = Turn))
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    InSession(id): InSession,
    Named(turn): Named<TurnId>,
) -> Result<Answer<Turn>> {
    Ok(Answer(api.sessions.cancel(&id, &turn).await?))
}
