//! API keys. Managed with the owner's token alone: a key that leaked must not be able to make
//! itself a successor.

use axum::{Extension, Json as Answer, extract::State, http::StatusCode};
use rclaude_types::{ApiKey, CreateKey, CreatedKey, KeyId, Page};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{JsonOnce, Named},
    problem::Result,
    sessions::{Created, created},
};
use crate::auth::Principal;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// Makes an API key.
///
/// Needs the owner's token. The secret is in this answer and nowhere else: a repeated request with
/// the same idempotency key is a conflict.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "keys",
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key and its secret.", body = CreatedKey,
            headers(("location" = String, description = "The key's path.")))
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    JsonOnce(request, once): JsonOnce<CreateKey>,
) -> Result<Created<CreatedKey>> {
    caller.require_owner()?;
    let key = api.auth.keys().create(request.name, once).await?;
    Ok(created(format!("/v1/keys/{}", key.key.id), key))
}

/// Lists API keys, revoked ones included, newest first.
///
/// Needs the owner's token.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "keys",
    responses((status = 200, description = "All keys, on one page.", body = Page<ApiKey>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
) -> Result<Answer<Page<ApiKey>>> {
    caller.require_owner()?;
    let data = api.auth.keys().list().await?;
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Revokes an API key.
///
/// Needs the owner's token. Revoking it twice is fine.
#[utoipa::path(
    delete,
    path = "/v1/keys/{key}",
    operation_id = "revoke_key",
    tag = "keys",
    responses((status = 204, description = "It opens nothing any more."))
)]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    Named(key): Named<KeyId>,
) -> Result<StatusCode> {
    caller.require_owner()?;
    api.auth.keys().revoke(&key).await?;
    Ok(StatusCode::NO_CONTENT)
}
