//! Files of a session. Bytes go straight through, whole directories as tar streams; nothing is
//! held here.

mod range;

use axum::{
    Json as Answer,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use rclaude_types::{ErrorCode, FileEntry, FileKind, FileList, SessionId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::range::Wanted;
use super::{
    Api,
    extract::{InSession, Query},
    openapi::Octets,
    problem::{Refusal, Result},
    stream,
    validate::{self, Validate},
};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TAR: HeaderValue = HeaderValue::from_static("application/x-tar");

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(download, write, remove))
        .routes(routes!(stat))
        .routes(routes!(list))
        .routes(routes!(download_tar, upload_tar))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FileQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(min_length = 1, max_length = 4096)]
    path: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DirectoryQuery {
    /// The directory; relative to the workspace, or absolute.
    #[serde(default = "workspace")]
    #[param(min_length = 1, max_length = 4096, default = ".", required = false)]
    path: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(min_length = 1, max_length = 4096)]
    path: String,
    /// Permission bits in octal, such as `644`; those of the file it replaces, else `644`, if
    /// absent.
    #[param(pattern = "^0?[0-7]{3}$")]
    mode: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// The file or directory; relative to the workspace, or absolute.
    #[param(min_length = 1, max_length = 4096)]
    path: String,
    /// Remove a directory with all that is in it.
    #[serde(default)]
    #[param(required = false, default = false)]
    recursive: bool,
}

fn workspace() -> String {
    ".".to_owned()
}

impl Validate for FileQuery {
    fn validate(&self) -> Result<()> {
        validate::path("path", &self.path)
    }
}

impl Validate for DirectoryQuery {
    fn validate(&self) -> Result<()> {
        validate::path("path", &self.path)
    }
}

impl Validate for WriteQuery {
    fn validate(&self) -> Result<()> {
        self.mode()?;
        validate::path("path", &self.path)
    }
}

impl Validate for RemoveQuery {
    fn validate(&self) -> Result<()> {
        validate::path("path", &self.path)
    }
}

impl WriteQuery {
    fn mode(&self) -> Result<Option<u32>> {
        let Some(text) = &self.mode else { return Ok(None) };
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let octal = digits.len() == 3 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
        mode.map(Some)
            .ok_or_else(|| Refusal::invalid(format!("mode: `{text}` is not octal, such as `644`")))
    }
}

/// Reads a file.
///
/// All of it, or one range of bytes.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files",
    operation_id = "read_file",
    tag = "files",
    params(
        FileQuery,
        ("range" = Option<String>, Header,
            description = "One range of bytes (RFC 9110, section 14.2), such as `bytes=0-499`. \
                Anything else is ignored."),
    ),
    responses(
        (status = 200, description = "The file.",
            body = Octets, content_type = "application/octet-stream"),
        (status = 206, description = "The range.",
            body = Octets, content_type = "application/octet-stream",
            headers(("content-range" = String, description = "Which bytes of how many."))),
    )
)]
pub(super) async fn download(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<FileQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    send(&api, &id, &query.path, &headers).await
}

/// Answers with a file's bytes.
pub(super) async fn send(
    api: &Api,
    id: &SessionId,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response> {
    let wanted = Wanted::of(headers);
    let range = match wanted {
        Wanted::All => None,
        Wanted::From { start, end } => Some(start..end),
        Wanted::Last(count) => {
            let size = api.sessions.stat(id, path).await?.size;
            Some(size.saturating_sub(count)..size)
        }
    };
    let (entry, bytes) = api.sessions.read_file(id, path, range.clone()).await?;
    let about = about(&entry);
    let Some(range) = range else {
        let body = stream::body(bytes).await?;
        // Files that the kernel makes up (/proc) say 0 and have content all the same.
        let length = (entry.size > 0).then(|| [(header::CONTENT_LENGTH, entry.size.to_string())]);
        return Ok(match length {
            Some(length) => (about, length, body).into_response(),
            None => (about, body).into_response(),
        });
    };
    if range.start >= entry.size {
        let refusal = Refusal::new(
            ErrorCode::RangeNotSatisfiable,
            format!("the file has {} bytes, and the range begins after them", entry.size),
        );
        let total = [(header::CONTENT_RANGE, format!("bytes */{}", entry.size))];
        return Ok((total, refusal).into_response());
    }
    let body = stream::body(bytes).await?;
    let end = range.end.min(entry.size);
    let part = [
        (header::CONTENT_RANGE, format!("bytes {}-{}/{}", range.start, end - 1, entry.size)),
        (header::CONTENT_LENGTH, (end - range.start).to_string()),
    ];
    Ok((StatusCode::PARTIAL_CONTENT, about, part, body).into_response())
}

/// A session's files are anybody's work: a browser may save them, and never show them as ours.
fn about(entry: &FileEntry) -> [(header::HeaderName, HeaderValue); 3] {
    let name = entry.path.rsplit('/').next().unwrap_or("file");
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // The serializer is for forms, where a space is a plus.
    let disposition = format!("attachment; filename*=UTF-8''{}", encoded.replace('+', "%20"));
    let disposition = HeaderValue::try_from(disposition)
        .unwrap_or_else(|_| HeaderValue::from_static("attachment"));
    [
        (header::CONTENT_TYPE, OCTETS),
        (header::CONTENT_DISPOSITION, disposition),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ]
}

/// Writes a file, whole or not at all.
///
/// Makes missing directories, and takes the place of a file that is there.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files",
    operation_id = "write_file",
    tag = "files",
    params(WriteQuery),
    request_body(content = Octets, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file as it is now.", body = FileEntry))
)]
pub(super) async fn write(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<WriteQuery>,
    body: Body,
) -> Result<Answer<FileEntry>> {
    let mode = query.mode()?;
    Ok(Answer(api.sessions.write_file(&id, &query.path, mode, bytes(body)).await?))
}

fn bytes(body: Body) -> BoxStream<'static, std::io::Result<bytes::Bytes>> {
    body.into_data_stream().map_err(std::io::Error::other).boxed()
}

/// Removes a file, or a directory.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{session}/files",
    operation_id = "remove_file",
    tag = "files",
    params(RemoveQuery),
    responses((status = 204, description = "It is gone."))
)]
pub(super) async fn remove(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode> {
    api.sessions.remove_file(&id, &query.path, query.recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows what a file is.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/stat",
    operation_id = "stat_file",
    tag = "files",
    params(FileQuery),
    responses((status = 200, description = "The file.", body = FileEntry))
)]
pub(super) async fn stat(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<FileQuery>,
) -> Result<Answer<FileEntry>> {
    Ok(Answer(api.sessions.stat(&id, &query.path).await?))
}

/// Lists a directory.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/list",
    operation_id = "list_files",
    tag = "files",
    params(DirectoryQuery),
    responses((status = 200, description = "What is in it, by name.", body = FileList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<DirectoryQuery>,
) -> Result<Answer<FileList>> {
    Ok(Answer(FileList { data: api.sessions.list_files(&id, &query.path).await? }))
}

/// Downloads a directory as a tar stream.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/tar",
    operation_id = "download_tar",
    tag = "files",
    params(DirectoryQuery),
    responses(
        (status = 200, description = "What is in it, with paths relative to it.",
            body = Octets, content_type = "application/x-tar")
    )
)]
pub(super) async fn download_tar(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<DirectoryQuery>,
) -> Result<Response> {
    let archive = api.sessions.download_tar(&id, &query.path).await?;
    Ok(([(header::CONTENT_TYPE, TAR)], stream::body(archive).await?).into_response())
}

/// Unpacks a tar stream into a directory.
///
/// The directory is made if it is missing; files that are there are replaced.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files/tar",
    operation_id = "upload_tar",
    tag = "files",
    params(DirectoryQuery),
    request_body(content = Octets, content_type = "application/x-tar"),
    responses((status = 204, description = "All of it is there."))
)]
pub(super) async fn upload_tar(
    State(api): State<Api>,
    InSession(id): InSession,
    Query(query): Query<DirectoryQuery>,
    body: Body,
) -> Result<StatusCode> {
    api.sessions.upload_tar(&id, &query.path, bytes(body)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A directory's entries, or a file's bytes: the original API's one question.
pub(super) async fn list_or_send(
    api: &Api,
    id: &SessionId,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response> {
    if api.sessions.stat(id, path).await?.kind == FileKind::Directory {
        let data = api.sessions.list_files(id, path).await?;
        return Ok(Answer(FileList { data }).into_response());
    }
    send(api, id, path, headers).await
}

/// What [`list_or_send`] is asked with.
pub(super) type AnyQuery = DirectoryQuery;

impl DirectoryQuery {
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use rclaude_types::Timestamp;

    use super::*;

    #[test]
    fn modes_are_octal() {
        let mode = |text: &str| WriteQuery { path: "f".into(), mode: Some(text.into()) }.mode();
        assert_eq!(mode("644").unwrap(), Some(0o644));
        assert_eq!(mode("0755").unwrap(), Some(0o755));
        for bad in ["", "64", "648", "4755", "00644", "+644", "rw-"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_files_name_cannot_break_its_header() {
        let entry = FileEntry {
            path: "/workspace/a b\"\r\nx: ä".into(),
            kind: FileKind::File,
            size: 1,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            modified_at: Timestamp::default(),
            target: None,
        };
        let [_, (_, disposition), _] = about(&entry);
        let wanted = "attachment; filename*=UTF-8''a%20b%22%0D%0Ax%3A%20%C3%A4";
        assert_eq!(disposition, wanted);
    }
}
