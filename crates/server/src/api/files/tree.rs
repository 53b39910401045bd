//! What there is, and changing it: everything about files but their bytes.

use std::path::Path;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use rclaude_sandbox::agentd::{Listing, Search};
use rclaude_types::{ChangeFile, FileEntry, FileList, FileSearch, SessionId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{FileQuery, SandboxPath, octal, query::condition};
use crate::api::{
    Api,
    extract::{InSession, Json, OnceKey, once_of},
    problem::{Refusal, Result},
    validate::Validate,
};

/// Entries of a page.
const MAX_PAGE: u32 = 10_000;
const PAGE: u32 = 1000;
/// Levels of a listing: deeper than trees are.
const MAX_DEPTH: u32 = 256;
/// Lines of a search.
const MAX_LINES: u32 = 2000;
const LINES: u32 = 200;
/// Bytes of a pattern.
const MAX_PATTERN: usize = 4096;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(stat))
        .routes(routes!(list))
        .routes(routes!(search))
        .routes(routes!(make_directory))
        .routes(routes!(link))
        .routes(routes!(rename))
        .routes(routes!(copy))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Of a link, show what it leads to, under its real path.
    #[serde(default)]
    #[param(required = false, default = false)]
    follow: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PathQuery {
    /// The file; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The directory; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
    /// Levels: 1 for what is in the directory itself.
    #[serde(default = "one")]
    #[param(minimum = 1, maximum = 256, default = 1, required = false)]
    depth: u32,
    /// A pattern that entries must match: their path from the directory if it has a slash, else
    /// their name. `*` is within a name, `**` across.
    #[param(min_length = 1, max_length = 4096)]
    glob: Option<String>,
    /// `next_cursor` of the page before; the first page if absent.
    #[param(max_length = 8192, pattern = "^[!-~]*$")]
    cursor: Option<String>,
    /// Entries at most. A page may have fewer and still not be the last.
    #[serde(default = "page")]
    #[param(minimum = 1, maximum = 10_000, default = 1000, required = false)]
    limit: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of its own")]
pub(super) struct SearchQuery {
    /// The file or directory; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
    /// A regular expression, as Rust's `regex` has them.
    #[param(min_length = 1, max_length = 4096)]
    pattern: String,
    /// The pattern is a text that is meant as it is.
    #[serde(default)]
    #[param(required = false, default = false)]
    literal: bool,
    /// Take capital and small letters for the same.
    #[serde(default)]
    #[param(required = false, default = false)]
    ignore_case: bool,
    /// Files to look into: by their path from the directory if it has a slash, else by name.
    #[param(min_length = 1, max_length = 4096)]
    glob: Option<String>,
    /// Look into hidden files and directories too.
    #[serde(default)]
    #[param(required = false, default = false)]
    hidden: bool,
    /// Look into what `.gitignore` and `.ignore` name too.
    #[serde(default)]
    #[param(required = false, default = false)]
    ignored: bool,
    /// Lines at most.
    #[serde(default = "lines")]
    #[param(minimum = 1, maximum = 2000, default = 200, required = false)]
    limit: u32,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DirectoryQuery {
    /// The directory; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Make those on the way too, and take one that is there for done.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    parents: bool,
    /// Permission bits in octal of a directory that is made; `755` if absent.
    #[param(pattern = "^0?[0-7]{3}$")]
    mode: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LinkQuery {
    /// The link; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Where it leads, as it is to be kept; relative to where the link is, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    target: SandboxPath,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct MoveQuery {
    /// What to move; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    from: SandboxPath,
    /// Its new path.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    to: SandboxPath,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CopyQuery {
    /// What to copy; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    from: SandboxPath,
    /// The copy's path.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    to: SandboxPath,
    /// Copy a directory with all that is in it.
    #[serde(default)]
    #[param(required = false, default = false)]
    recursive: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// The file or directory; relative to the workspace, or absolute.
    #[param(value_type = String, min_length = 1, max_length = 4095)]
    path: SandboxPath,
    /// Remove a directory with all that is in it.
    #[serde(default)]
    #[param(required = false, default = false)]
    recursive: bool,
}

/// What the original API's question is asked with.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct AnyQuery {
    /// The directory or file; relative to the workspace, or absolute.
    #[serde(default = "SandboxPath::workspace")]
    #[param(value_type = String, min_length = 1, max_length = 4095, default = ".", required = false)]
    path: SandboxPath,
}

impl AnyQuery {
    pub(in crate::api) fn path(&self) -> &Path {
        self.path.path()
    }
}

const fn one() -> u32 {
    1
}

const fn page() -> u32 {
    PAGE
}

const fn lines() -> u32 {
    LINES
}

const fn yes() -> bool {
    true
}

macro_rules! nothing_to_check {
    ($($query:ty),*) => {$(
        impl Validate for $query {
            fn validate(&self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

// What a path may be it checks itself.
nothing_to_check!(StatQuery, PathQuery, LinkQuery, MoveQuery, CopyQuery, RemoveQuery, AnyQuery);

impl Validate for DirectoryQuery {
    fn validate(&self) -> Result<()> {
        octal(self.mode.as_deref()).map(drop)
    }
}

impl Validate for ListQuery {
    fn validate(&self) -> Result<()> {
        within("depth", self.depth, MAX_DEPTH)?;
        within("limit", self.limit, MAX_PAGE)?;
        short("glob", self.glob.as_deref(), MAX_PATTERN)?;
        short("cursor", self.cursor.as_deref(), 2 * MAX_PATTERN)
    }
}

impl Validate for SearchQuery {
    fn validate(&self) -> Result<()> {
        within("limit", self.limit, MAX_LINES)?;
        short("pattern", Some(&self.pattern), MAX_PATTERN)?;
        short("glob", self.glob.as_deref(), MAX_PATTERN)
    }
}

impl Validate for ChangeFile {
    fn validate(&self) -> Result<()> {
        if self.mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Refusal::invalid("mode: is more than 4095 (0o7777)"));
        }
        if self.modified_nanos > 999 {
            return Err(Refusal::invalid("modified_nanos: must be from 0 to 999"));
        }
        Ok(())
    }
}

fn within(field: &str, value: u32, most: u32) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("{field}: is {value}; must be from 1 to {most}")))
}

fn short(field: &str, text: Option<&str>, most: usize) -> Result<()> {
    match text {
        Some("") => Err(Refusal::invalid(format!("{field}: is empty"))),
        Some(text) if text.len() > most => {
            Err(Refusal::invalid(format!("{field}: has more than {most} bytes")))
        }
        _ => Ok(()),
    }
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
    FileQuery(query): FileQuery<RemoveQuery>,
) -> Result<StatusCode> {
    api.sessions.remove_file(&id, query.path.path(), query.recursive).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a file's mode and time.
///
/// Links are followed.
#[utoipa::path(
    patch,
    path = "/v1/sessions/{session}/files",
    operation_id = "change_file",
    tag = "files",
    params(PathQuery),
    request_body = ChangeFile,
    responses((status = 200, description = "The file as it is now.", body = FileEntry))
)]
pub(super) async fn change(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<PathQuery>,
    Json(change): Json<ChangeFile>,
) -> Result<Answer<FileEntry>> {
    Ok(Answer(api.sessions.change_file(&id, query.path.path(), &change).await?))
}

/// Shows what a file is.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/stat",
    operation_id = "stat_file",
    tag = "files",
    params(StatQuery),
    responses((status = 200, description = "The file.", body = FileEntry))
)]
pub(super) async fn stat(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<StatQuery>,
) -> Result<Answer<FileEntry>> {
    Ok(Answer(api.sessions.stat(&id, query.path.path(), query.follow).await?))
}

/// Lists a directory.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/list",
    operation_id = "list_files",
    tag = "files",
    params(ListQuery),
    responses((status = 200, description = "What is in it, each directory before what is in that.",
        body = FileList))
)]
pub(super) async fn list(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<ListQuery>,
) -> Result<Answer<FileList>> {
    let ListQuery { path, depth, glob, cursor, limit } = query;
    let listing = Listing { depth, glob, cursor, limit };
    Ok(Answer(api.sessions.list_files(&id, path.path(), &listing).await?))
}

/// Searches the lines of files.
///
/// Files that look binary are passed by. A search ends after twenty seconds with what it has.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/files/search",
    operation_id = "search_files",
    tag = "files",
    params(SearchQuery),
    responses((status = 200, description = "Lines that match.", body = FileSearch))
)]
pub(super) async fn search(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<SearchQuery>,
) -> Result<Answer<FileSearch>> {
    let SearchQuery { path, pattern, literal, ignore_case, glob, hidden, ignored, limit } = query;
    let search = Search { pattern, literal, ignore_case, glob, hidden, ignored, limit };
    Ok(Answer(api.sessions.search_files(&id, path.path(), &search).await?))
}

/// Makes a directory.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files/directory",
    operation_id = "make_directory",
    tag = "files",
    params(DirectoryQuery),
    responses((status = 200, description = "The directory.", body = FileEntry))
)]
pub(super) async fn make_directory(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<DirectoryQuery>,
) -> Result<Answer<FileEntry>> {
    let mode = octal(query.mode.as_deref())?;
    let made = api.sessions.make_directory(&id, query.path.path(), query.parents, mode);
    Ok(Answer(made.await?))
}

/// Makes a symbolic link.
///
/// Where something is, none is made. `stat` tells where one leads.
#[utoipa::path(
    put,
    path = "/v1/sessions/{session}/files/link",
    operation_id = "link_file",
    tag = "files",
    params(LinkQuery),
    responses((status = 200, description = "The link.", body = FileEntry))
)]
pub(super) async fn link(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<LinkQuery>,
) -> Result<Answer<FileEntry>> {
    Ok(Answer(api.sessions.link_file(&id, query.path.path(), query.target.target()).await?))
}

/// Moves a file or directory.
///
/// A file that is there is replaced.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/files/move",
    operation_id = "move_file",
    tag = "files",
    params(
        MoveQuery,
        ("if-match" = Option<String>, Header,
            description = "The `etag` that what is replaced must have, in quotes, or `*` for any."),
        ("if-none-match" = Option<String>, Header, description = "`*`: nothing may be there."),
    ),
    responses((status = 200, description = "It, in its new place.", body = FileEntry))
)]
pub(super) async fn rename(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<MoveQuery>,
    OnceKey(key): OnceKey,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Answer<FileEntry>> {
    let (from, to, condition) = (query.from.path(), query.to.path(), condition(&headers)?);
    let once = once_of(key, &uri);
    Ok(Answer(api.sessions.move_file(&id, from, to, &condition, once).await?))
}

/// Copies a file, or a directory.
///
/// With modes and times, whole or not at all; without copying blocks where the file system can
/// share them. A file that is there is replaced, a directory is not.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session}/files/copy",
    operation_id = "copy_file",
    tag = "files",
    params(
        CopyQuery,
        ("if-match" = Option<String>, Header,
            description = "The `etag` that what is replaced must have, in quotes, or `*` for any."),
        ("if-none-match" = Option<String>, Header, description = "`*`: nothing may be there."),
    ),
    responses((status = 200, description = "The copy.", body = FileEntry))
)]
pub(super) async fn copy(
    State(api): State<Api>,
    InSession(id): InSession,
    FileQuery(query): FileQuery<CopyQuery>,
    OnceKey(key): OnceKey,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Answer<FileEntry>> {
    let (from, to, condition) = (query.from.path(), query.to.path(), condition(&headers)?);
    let once = once_of(key, &uri);
    let copied = api.sessions.copy_file(&id, from, to, query.recursive, &condition, once);
    Ok(Answer(copied.await?))
}

/// Answers with the first page of a directory.
pub(in crate::api) async fn first_page(api: &Api, id: &SessionId, path: &Path) -> Result<Response> {
    let listing = Listing { limit: MAX_PAGE, ..Listing::default() };
    Ok(Answer(api.sessions.list_files(id, path, &listing).await?).into_response())
}
