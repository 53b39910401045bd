//! Public keys that open sessions over SSH. Managed with the owner's token alone, as API keys are.

use axum::{Extension, Json as Answer, extract::State, http::StatusCode};
use rclaude_types::{CreateSshKey, Page, SshKey, SshKeyId};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    extract::{JsonOnce, Named},
    problem::Result,
    sessions::{Created, created},
};
use crate::auth::Principal;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(add, list)).routes(routes!(remove))
}

/// Adds a public key that opens sessions over SSH.
///
/// Needs the owner's token. A key that is there already is answered as it is.
#[utoipa::path(
    post,
    path = "/v1/ssh-keys",
    operation_id = "add_ssh_key",
    tag = "keys",
    request_body = CreateSshKey,
    responses(
        (status = 201, description = "The key.", body = SshKey,
            headers(("location" = String, description = "The key's path.")))
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    JsonOnce(request, once): JsonOnce<CreateSshKey>,
) -> Result<Created<SshKey>> {
    caller.require_owner()?;
    let key = api.ssh_keys.add(request, once).await?;
    Ok(created(format!("/v1/ssh-keys/{}", key.id), key))
}

/// Lists the public keys that open sessions over SSH, newest first.
///
/// Needs the owner's token.
#[utoipa::path(
    get,
    path = "/v1/ssh-keys",
    operation_id = "list_ssh_keys",
    tag = "keys",
    responses((status = 200, description = "All keys, on one page.", body = Page<SshKey>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
) -> Result<Answer<Page<SshKey>>> {
    caller.require_owner()?;
    let data = api.ssh_keys.list().await?;
    Ok(Answer(Page { data, next_cursor: None }))
}

/// Removes a public key. Connections that it opened end.
///
/// Needs the owner's token.
#[utoipa::path(
    delete,
    path = "/v1/ssh-keys/{ssh_key}",
    operation_id = "remove_ssh_key",
    tag = "keys",
    responses((status = 204, description = "It opens nothing any more."))
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Principal>,
    Named(key): Named<SshKeyId>,
) -> Result<StatusCode> {
    caller.require_owner()?;
    api.ssh_keys.remove(&key).await?;
    Ok(StatusCode::NO_CONTENT)
}
