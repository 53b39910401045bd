//! Sessions as files: out of one server, into another.

use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rclaude_types::{ErrorCode, Session, UpdateSession};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{InSession, OnceKey, Query},
    openapi::Octets,
    problem::{Refusal, Result},
    sessions::created,
    stream,
    validate::Validate,
};
use crate::snapshots::{
    Secret,
    import::{ArchiveKey, Import, bytes},
};

/// The header with the passphrase of an archive, in base64.
const PASSPHRASE: HeaderName = HeaderName::from_static("rclaude-archive-passphrase");
/// The header with the key of an archive, in hexadecimal.
const KEY: HeaderName = HeaderName::from_static("rclaude-archive-key");
/// The media type of archives.
const ARCHIVE: HeaderValue = HeaderValue::from_static("application/vnd.rclaude.archive");

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(import))
}

/// What an imported session is to be called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Its name; the one it had, if that is free, or one made up if absent.
    #[param(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    name: Option<String>,
}

impl Validate for ImportQuery {
    fn validate(&self) -> Result<()> {
        UpdateSession { name: self.name.clone(), ..UpdateSession::default() }.validate()
    }
}

/// Exports a session as one encrypted file that any server can import.
///
/// Its present state is kept as a checkpoint first, if it is not one already. Without a passphrase
/// a key is made, and is in this answer's headers and nowhere else.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/export",
    operation_id = "export_session",
    tag = "storage",
    params(
        ("rclaude-archive-passphrase" = Option<String>, Header,
            description = "What to lock the archive with, in base64.")
    ),
    responses(
        (status = 200, description = "The archive.", body = Octets,
            content_type = "application/vnd.rclaude.archive",
            headers(("rclaude-archive-key" = String,
                description = "The key that opens it, where no passphrase was given.")))
    )
)]
pub(super) async fn export(
    State(api): State<Api>,
    InSession(id): InSession,
    headers: HeaderMap,
) -> Result<Response> {
    let passphrase = passphrase(&headers)?;
    let (sessions, snapshots) = (api.sessions.clone(), api.sessions.engine().snapshots.clone());
    let exported = snapshots.export(&sessions, &id, passphrase).await?;
    let body = stream::body(exported.bytes).await?;
    let mut answer = ([(header::CONTENT_TYPE, ARCHIVE)], body).into_response();
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(mut key) = exported.key.and_then(|key| HeaderValue::try_from(key).ok()) {
        key.set_sensitive(true);
        answer.headers_mut().insert(KEY, key);
    }
    Ok(answer)
}

/// Makes a session of an archive.
///
/// It goes on where it was exported, with its files, its conversation and its history. What it cost
/// stays with the server it comes from.
#[utoipa::path(
    post,
    path = "/v1/imports",
    operation_id = "import_session",
    tag = "storage",
    params(
        ImportQuery,
        ("rclaude-archive-passphrase" = Option<String>, Header,
            description = "What the archive was locked with, in base64."),
        ("rclaude-archive-key" = Option<String>, Header,
            description = "The key that its export gave.")
    ),
    request_body(content = Octets, content_type = "application/vnd.rclaude.archive"),
    responses(
        (status = 201, description = "The session.", body = Session,
            headers(("location" = String, description = "The session's path.")))
    )
)]
pub(super) async fn import(
    State(api): State<Api>,
    Query(query): Query<ImportQuery>,
    OnceKey(once): OnceKey,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<Session>)> {
    let key = match (passphrase(&headers)?, headers.get(KEY)) {
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("give a passphrase or a key, not both"));
        }
        (Some(passphrase), None) => ArchiveKey::Passphrase(passphrase),
        (None, Some(key)) => {
            let key = key.to_str().ok().and_then(|text| ArchiveKey::parse(text.trim()));
            key.ok_or_else(|| Refusal::new(ErrorCode::WrongKey, "the key has 64 hex digits"))?
        }
        (None, None) => {
            return Err(Refusal::invalid(
                "say what opens the archive: rclaude-archive-passphrase or rclaude-archive-key",
            ));
        }
    };
    let (sessions, snapshots) = (api.sessions.clone(), api.sessions.engine().snapshots.clone());
    let import = Import { name: query.name, key, once, archive: bytes(body) };
    let session = snapshots.import(&sessions, import).await?;
    Ok(created(format!("/v1/sessions/{}", session.id), session))
}

fn passphrase(headers: &HeaderMap) -> Result<Option<Secret>> {
    let Some(given) = headers.get(PASSPHRASE) else { return Ok(None) };
    let text = STANDARD.decode(given.as_bytes()).ok().and_then(|it| String::from_utf8(it).ok());
    match text {
        Some(text) if !text.is_empty() => Ok(Some(Secret::new(text))),
        _ => Err(Refusal::invalid(
            "rclaude-archive-passphrase: must be UTF-8 text in base64, and not empty",
        )),
    }
}
