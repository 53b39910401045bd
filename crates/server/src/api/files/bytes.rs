//! A file's bytes, out and in.

use std::path::Path;

use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt};
use rclaude_sandbox::agentd::Part;
use rclaude_types::{
    ErrorCode, FileEntry, SessionId,
    agentd::{FILE_MODE_HEADER, FILE_MODIFIED_HEADER},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    FileQuery, SandboxPath, octal,
    query::{condition, encoded_name},
};
use crate::{
    api::{
        Api,
        extract::{InSession, OnceKey, once_of},
        openapi::Octets,
        problem::{Refusal, Result},
        stream,
        validate::Validate,
    },
    session::manager::{Append, Upload},
};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What the daemon says of a file that its reader is told: nothing else it may say goes on.
const TOLD: [HeaderName; 5] = [
    header::ETAG,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    HeaderName::from_static(FILE_MODE_HEADER),
    HeaderName::from_static(FILE_MODIFIED_HEADER),
];

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(download, write, super::tree::remove, super::tree::change))
        .routes(routes!(append))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Permission bits in octal, such as `644`; those of the file it replaces, else `644`, if
    /// absent.
    #[param(pattern = "^0?[0-7]{3}$")]
    mode: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AppendQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Where the first byte goes: at the end if absent. Behind the end it is
    /// `precondition_failed`.
    offset: Option<u64>,
    /// Permission bits in octal of a file that is made for it; `644` if absent.
    #[param(pattern = "^0?[0-7]{3}$")]
    mode: Option<String>,
}

impl Validate for ReadQuery {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

impl Validate for WriteQuery {
    fn validate(&self) -> Result<()> {
        octal(self.mode.as_deref()).map(drop)
    }
}

impl Validate for AppendQuery {
    fn validate(&self) -> Result<()> {
        octal(self.mode.as_deref()).map(drop)
    }
}

/// Reads a file.
///
/// All of it, or one range of bytes. Links are followed. `rclaude-file-mode` has its permission
/// bits in octal, `rclaude-file-modified` the seconds since 1970 when it changed last.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files",
    operation_id = "read_file",
    tag = "files",
    params(
        ReadQuery,
        ("range" = Option<String>, Header,
            description = "One range of bytes (RFC 9110, section 14.2), such as `bytes=0-499`. \
                Anything else is ignored."),
        ("if-range" = Option<String>, Header,
            description = "An `etag`: the range counts only if the file still has it; otherwise \
                the whole file is the answer."),
    ),
    responses(
        (status = 200, description = "The file.",
            body = Octets, content_type = "application/octet-stream",
            headers(("etag" = String, description = "Names the content as it is now."))),
        (status = 206, description = "The range.",
            body = Octets, content_type = "application/octet-stream",
            headers(
                ("etag" = String, description = "Names the content as it is now."),
                ("content-range" = String, description = "Which bytes of how many."),
            )),
    )
)]
pub(super) async fn download(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    send(&api, &id, query.path.path(), &headers).await
}

/// Answers with a file's bytes.
pub(in crate::api) async fn send(
    api: &Api,
    id: &SessionId,
    path: &Path,
    headers: &HeaderMap,
) -> Result<Response> {
    let part = Part {
        range: headers.get(header::RANGE).cloned(),
        only_of: headers.get(header::IF_RANGE).cloned(),
    };
    let file = match api.sessions.read_file(id, path, part).await {
        Err(problem) if problem.code == ErrorCode::RangeNotSatisfiable => {
            let size = api.sessions.stat(id, path, true).await?.size;
            let total = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((total, Refusal::from(problem)).into_response());
        }
        file => file?,
    };
    let mut about = about(path);
    let said = |name: HeaderName| Some((name.clone(), file.headers.get(&name)?.clone()));
    about.extend(TOLD.into_iter().filter_map(said));
    let status = if about.contains_key(header::CONTENT_RANGE) {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let body = stream::body(file.bytes).await?;
    Ok((status, about, body).into_response())
}

/// A session's files are anybody's work: a browser may save them, and never show them as ours.
fn about(path: &Path) -> HeaderMap {
    let disposition = format!("attachment; filename*=UTF-8''{}", encoded_name(path));
    let disposition = HeaderValue::try_from(disposition)
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, OCTETS),
        (header::CONTENT_DISPOSITION, disposition),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ])
}

/// Writes a file, whole or not at all.
///
/// Makes missing directories, and takes the place of a file or link that is there.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files",
    operation_id = "write_file",
    tag = "files",
    params(
        WriteQuery,
        ("if-match" = Option<String>, Header,
            description = "The `etag` that the file must have to be replaced, in quotes, or `*` \
                for any."),
        ("if-none-match" = Option<String>, Header,
            description = "`*`: nothing may be there."),
    ),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file as it is now.", body = FileEntry))
)]
pub(super) async fn write(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer<FileEntry>> {
    let (mode, condition) = (octal(query.mode.as_deref())?, condition(&headers)?);
    let written =
        api.sessions.write_file(&id, query.path.path(), mode, condition, upload(body)).await?;
    Ok(Answer(written))
}

/// Adds to a file.
///
/// It is made if it is missing. What has arrived of a body that breaks off stays: `stat` tells how
/// much, and `offset` goes on from there.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/files/append",
    operation_id = "append_file",
    tag = "files",
    params(AppendQuery),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file as it is now.", body = FileEntry))
)]
pub(super) async fn append(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<AppendQuery>,
    OnceKey(key): OnceKey,
    uri: Uri,
    body: Body,
) -> Result<Answer<FileEntry>> {
    let append = Append { offset: query.offset, mode: octal(query.mode.as_deref())? };
    let (path, once) = (query.path.path(), once_of(key, &uri));
    Ok(Answer(api.sessions.append_file(&id, path, append, upload(body), once).await?))
}

/// A request's body as it comes.
pub(super) fn upload(body: Body) -> Upload {
    body.into_data_stream().map_err(std::io::Error::other).boxed()
}
