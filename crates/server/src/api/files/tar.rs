//! Whole directories, as tar streams.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rclaude_sandbox::agentd::Untar;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{FileQuery, SandboxPath, bytes::upload};
use crate::api::{
    Api, extract::InSession, openapi::Octets, problem::Result, stream, validate::Validate,
};

const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(download_tar, upload_tar))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PackQuery {
    /// The directory, or one file; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
    /// Tell times to the nanosecond, which takes another kilobyte for each entry.
    #[serde(default)]
    #[param(required = false, default = false)]
    exact_times: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UnpackQuery {
    /// The directory; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
    /// Make symbolic links as they are, wherever they lead; otherwise an archive with one that
    /// leads out of the directory is refused. No entry goes through a link in either case.
    #[serde(default)]
    #[param(required = false, default = false)]
    any_links: bool,
    /// Leave the archive's times aside: what is unpacked is new.
    #[serde(default)]
    #[param(required = false, default = false)]
    now: bool,
}

impl Validate for PackQuery {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl Validate for UnpackQuery {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Downloads a directory as a tar stream.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/tar",
    operation_id = "download_tar",
    tag = "files",
    params(PackQuery),
    responses(
        (status = 200, description = "What is in it, with paths relative to it.",
            body = Octets, content_type = "application/x-tar")
    )
)]
pub(super) async fn download_tar(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<PackQuery>,
) -> Result<Response> {
    let archive = api.sessions.download_tar(&id, query.path.path(), query.exact_times).await?;
    Ok(([(header::CONTENT_TYPE, TAR)], stream::body(archive).await?).into_response())
}

/// Unpacks a tar stream into a directory.
///
/// The directory is made if it is missing. Each file that is there is replaced as a whole.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files/tar",
    operation_id = "upload_tar",
    tag = "files",
    params(UnpackQuery),
    request_body(content = Octets, content_type = "application/x-tar"),
    responses((status = 204, description = "All of it is there."))
)]
pub(super) async fn upload_tar(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<UnpackQuery>,
    body: Body,
) -> Result<StatusCode> {
    let how = Untar { any_links: query.any_links, now: query.now };
    api.sessions.upload_tar(&id, query.path.path(), how, upload(body)).await?;
    Ok(StatusCode::NO_CONTENT)
}
