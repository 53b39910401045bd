//! Sessions: made, found, steered, ended.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{FromRequestParts, State},
    http::{HeaderName, StatusCode, header, request::Parts},
};
use rclaude_types::{CreateSession, Page, PauseSession, Session, UpdateSession};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, ApiState,
    extract::{InSession, Json, JsonOnce, JsonOrNothing},
    page,
    problem::{Refusal, Result},
    validate,
};
use crate::session::manager::SessionFilter;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(interrupt))
}

/// What was made and where it is.
pub(super) type Created<T> = (StatusCode, [(HeaderName, String); 1], Answer<T>);

/// `201` with the new thing's address.
pub(super) fn created<T>(location: String, body: T) -> Created<T> {
    (StatusCode::CREATED, [(header::LOCATION, location)], Answer(body))
}

/// Which sessions a list wants.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the query; `Wanted` reads it")]
struct ListSessions {
    /// `next_cursor` of the page before; the first page if absent.
    #[param(max_length = 255)]
    cursor: Option<String>,
    /// Entries at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Only sessions with this label, as `key=value`; several must all be there.
    #[param(style = Form, explode)]
    label: Option<Vec<String>>,
}

/// A list's query. Read by hand, because `label` may come more than once.
#[derive(Debug)]
pub(super) struct Wanted(SessionFilter);

impl FromRequestParts<Arc<ApiState>> for Wanted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<ApiState>) -> Result<Self> {
        filter(parts.uri.query().unwrap_or("")).map(Self)
    }
}

fn filter(query: &str) -> Result<SessionFilter> {
    let mut filter = SessionFilter { limit: page::DEFAULT_LIMIT, ..SessionFilter::default() };
    let mut seen_limit = false;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "cursor" if filter.cursor.is_none() => filter.cursor = Some(value.into_owned()),
            "limit" if !seen_limit => {
                seen_limit = true;
                filter.limit = value
                    .parse()
                    .map_err(|_| Refusal::invalid(format!("limit: `{value}` is no number")))?;
            }
            "label" => {
                let (key, value) = value.split_once('=').ok_or_else(|| {
                    Refusal::invalid(format!("label: `{value}` is not of the form key=value"))
                })?;
                validate::label(key, value)?;
                filter.labels.push((key.to_owned(), value.to_owned()));
            }
            "cursor" | "limit" => {
                return Err(Refusal::invalid(format!("{key}: is given twice")));
            }
            other => {
                return Err(Refusal::invalid(format!(
                    "`{other}` is no parameter of this list; cursor, limit and label are"
                )));
            }
        }
    }
    page::check(filter.cursor.as_deref(), filter.limit)?;
    Ok(filter)
}

/// Makes a session.
///
/// Answers at once; the sandbox comes up, the repository is checked out and the first prompt is
/// begun on their own, as the session's log tells.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    operation_id = "create_session",
    tag = "sessions",
    request_body = CreateSession,
    responses(
        (status = 201, description = "The session, being brought up.", body = Session,
            headers(("location" = String, description = "The session's path.")))
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    JsonOnce(request, once): JsonOnce<CreateSession>,
) -> Result<Created<Session>> {
    let session = api.sessions.create(request, once).await?;
    Ok(created(format!("/v1/sessions/{}", session.id), session))
}

/// Lists sessions, newest first.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "list_sessions",
    tag = "sessions",
    params(ListSessions),
    responses((status = 200, description = "A page of sessions.", body = Page<Session>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Wanted(filter): Wanted,
) -> Result<Answer<Page<Session>>> {
    Ok(Answer(api.sessions.list(filter).await?))
}

/// Shows a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}",
    operation_id = "get_session",
    tag = "sessions",
    responses((status = 200, description = "The session.", body = Session))
)]
pub(super) async fn get(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Session>> {
    Ok(Answer(api.sessions.get(&id).await?))
}

/// Changes a session's name, model, permission mode or policy.
#[utoipa::path(
    patch,
    path = "/v1/sessions/{session}",
    operation_id = "update_session",
    tag = "sessions",
    request_body = UpdateSession,
    responses((status = 200, description = "The session as it is now.", body = Session))
)]
pub(super) async fn update(
    State(api): State<Api>,
    InSession(id): InSession,
    Json(change): Json<UpdateSession>,
) -> Result<Answer<Session>> {
    Ok(Answer(api.sessions.update(&id, change).await?))
}

/// Ends a session and removes its files.
///
/// There is no way back. Deleting what is already deleted is fine.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{session}",
    operation_id = "delete_session",
    tag = "sessions",
    responses((status = 204, description = "It is ending, or has ended."))
)]
pub(super) async fn delete(State(api): State<Api>, InSession(id): InSession) -> Result<StatusCode> {
    api.sessions.delete(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a session aside.
///
/// Without a body, or with `freeze`, its processes stand still in memory; with `hibernate` they
/// end; with `archive` all its files leave the machine, too. Where the host cannot freeze
/// processes they end. Conversation, queue and bill stay. Pausing twice is fine.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/pause",
    operation_id = "pause_session",
    tag = "sessions",
    request_body = Option<PauseSession>,
    responses((status = 200, description = "The session.", body = Session))
)]
pub(super) async fn pause(
    State(api): State<Api>,
    InSession(id): InSession,
    JsonOrNothing(request): JsonOrNothing<PauseSession>,
) -> Result<Answer<Session>> {
    Ok(Answer(api.sessions.pause(&id, request).await?))
}

/// Brings a session back.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/resume",
    operation_id = "resume_session",
    tag = "sessions",
    responses((status = 200, description = "The session.", body = Session))
)]
pub(super) async fn resume(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Session>> {
    Ok(Answer(api.sessions.resume(&id).await?))
}

/// Stops the turn under way.
///
/// The queue goes on with the next. Where nothing is under way this does nothing.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/interrupt",
    operation_id = "interrupt_session",
    tag = "sessions",
    responses((status = 200, description = "The session.", body = Session))
)]
pub(super) async fn interrupt(
    State(api): State<Api>,
    InSession(id): InSession,
) -> Result<Answer<Session>> {
    Ok(Answer(api.sessions.interrupt(&id).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lists_query_takes_labels_again_and_again() {
        let filter = filter("label=team%3Dcore&limit=7&label=a%2Fb%3Dx%3Dy&cursor=c").unwrap();
        let labels = [("team", "core"), ("a/b", "x=y")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(filter.labels, labels);
        assert_eq!((filter.limit, filter.cursor.as_deref()), (7, Some("c")));
    }

    #[test]
    fn a_lists_query_refuses_what_it_does_not_know() {
        for query in ["limit=0", "limit=201", "limit=x", "limit=1&limit=2", "label=x", "label=%3Dx"]
        {
            assert!(filter(query).is_err(), "{query}");
        }
        let refusal = filter("lable=a%3Db").unwrap_err();
        assert!(refusal.0.detail.contains("`lable`"), "{}", refusal.0.detail);
    }
}
