//! Files of a session. What moves bytes is sent once; whoever calls knows how to go on after a
//! connection that broke.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rclaude_types::{
    ChangeFile, FileEntry, Page,
    agentd::{FILE_MODE_HEADER, FILE_MODIFIED_HEADER},
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::value::RawValue;
use url::{Url, form_urlencoded};

use super::{
    Answer, Client,
    http::{self, Request, new_key, strange},
    read,
};
use crate::exit::Failure;

/// Entries of a listing at a time.
const PAGE: u32 = 10_000;

/// Which bytes of a file are wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// From here on.
    pub(crate) from: u64,
    /// Only if the file still has this tag; otherwise all of it comes.
    pub(crate) etag: Option<String>,
}

/// What a file that is written may take the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replace {
    /// Whatever is there.
    Any,
    /// The file with this tag, in quotes.
    Same(String),
    /// Nothing.
    Nothing,
}

/// A file on its way.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The bytes to come.
    pub(crate) response: Response,
    /// The first byte's place: 0 unless the part that was wanted is what comes.
    pub(crate) from: u64,
    /// Names the file's content, in quotes.
    pub(crate) etag: Option<String>,
    /// The whole file's size, if it has one.
    pub(crate) size: Option<u64>,
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// When it changed last: seconds since 1970, nanoseconds.
    pub(crate) modified: Option<(i64, u32)>,
}

impl Client {
    fn files(&self, session: &str, operation: &[&str], query: &[(&str, &OsStr)]) -> Url {
        let path: Vec<&str> =
            ["sessions", session, "files"].iter().chain(operation).copied().collect();
        let mut url = self.resource(&path, &[]);
        let query: Vec<String> = query
            .iter()
            .map(|(name, value)| {
                let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
                format!("{name}={value}")
            })
            .collect();
        url.set_query(Some(&query.join("&")));
        url
    }

    /// What is at a path; what a link leads to, under its real path, if `follow`.
    pub(crate) async fn stat(
        &self,
        session: &str,
        path: &Path,
        follow: bool,
    ) -> Result<Answer<FileEntry>, Failure> {
        let follow = OsStr::new(if follow { "true" } else { "false" });
        let query = [("path", path.as_os_str()), ("follow", follow)];
        let url = self.files(session, &["stat"], &query);
        self.answer(Request::plain(Method::GET, url)).await
    }

    /// A page of a directory's entries, `depth` levels of them.
    pub(crate) async fn list(
        &self,
        session: &str,
        path: &Path,
        depth: u32,
        cursor: Option<&str>,
    ) -> Result<Answer<Page<Box<RawValue>>>, Failure> {
        let (depth, limit) = (depth.to_string(), PAGE.to_string());
        let mut query = vec![
            ("path", path.as_os_str()),
            ("depth", OsStr::new(&depth)),
            ("limit", OsStr::new(&limit)),
        ];
        query.extend(cursor.map(|cursor| ("cursor", OsStr::new(cursor))));
        let url = self.files(session, &["list"], &query);
        self.answer(Request::plain(Method::GET, url)).await
    }

    pub(crate) async fn make_directory(
        &self,
        session: &str,
        path: &Path,
    ) -> Result<Answer<FileEntry>, Failure> {
        let url = self.files(session, &["directory"], &[("path", path.as_os_str())]);
        self.answer(Request::plain(Method::PUT, url)).await
    }

    pub(crate) async fn remove_file(
        &self,
        session: &str,
        path: &Path,
        recursive: bool,
    ) -> Result<(), Failure> {
        let recursive = OsStr::new(if recursive { "true" } else { "false" });
        let query = [("path", path.as_os_str()), ("recursive", recursive)];
        let url = self.files(session, &[], &query);
        self.send(Request::plain(Method::DELETE, url)).await.map(drop)
    }

    pub(crate) async fn change_file(
        &self,
        session: &str,
        path: &Path,
        change: &ChangeFile,
    ) -> Result<Answer<FileEntry>, Failure> {
        let url = self.files(session, &[], &[("path", path.as_os_str())]);
        let body = http::Body::json(change)?;
        self.answer(Request { body, ..Request::plain(Method::PATCH, url) }).await
    }

    /// `move` or `copy`.
    pub(crate) async fn relocate(
        &self,
        session: &str,
        verb: &str,
        (from, to): (&Path, &Path),
        recursive: bool,
    ) -> Result<Answer<FileEntry>, Failure> {
        let mut query = vec![("from", from.as_os_str()), ("to", to.as_os_str())];
        if recursive {
            query.push(("recursive", OsStr::new("true")));
        }
        let url = self.files(session, &[verb], &query);
        self.answer(Request { key: Some(new_key()), ..Request::plain(Method::POST, url) }).await
    }

    /// Begins to read a file.
    pub(crate) async fn fetch(
        &self,
        session: &str,
        path: &Path,
        wanted: &Wanted,
    ) -> Result<Fetched, Failure> {
        let url = self.files(session, &[], &[("path", path.as_os_str())]);
        let mut request = self.begin(Method::GET, url);
        if let Some(etag) = wanted.etag.as_ref().filter(|_| wanted.from > 0) {
            let range = format!("bytes={}-", wanted.from);
            request = request.header(header::RANGE, range).header(header::IF_RANGE, etag);
        }
        let response = self.whole(request).await?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let is_part = response.status() == StatusCode::PARTIAL_CONTENT;
        let from = if is_part { wanted.from } else { 0 };
        let modified = text(FILE_MODIFIED_HEADER).and_then(|text| {
            let (seconds, nanos) = text.split_once('.')?;
            Some((seconds.parse().ok()?, nanos.parse().ok()?))
        });
        let length: Option<u64> = text("content-length").and_then(|text| text.parse().ok());
        Ok(Fetched {
            from,
            etag: text("etag").map(str::to_owned),
            size: length.map(|length| length + from),
            mode: text(FILE_MODE_HEADER).and_then(|text| u32::from_str_radix(text, 8).ok()),
            modified,
            response,
        })
    }

    /// Writes a file, whole or not at all.
    pub(crate) async fn store(
        &self,
        session: &str,
        path: &Path,
        mode: Option<u32>,
        replace: &Replace,
        body: Body,
    ) -> Result<FileEntry, Failure> {
        let mode = mode.map(|mode| OsString::from(format!("{mode:03o}")));
        let mut query = vec![("path", path.as_os_str())];
        query.extend(mode.as_deref().map(|mode| ("mode", mode)));
        let mut request = self.begin(Method::PUT, self.files(session, &[], &query));
        request = match replace {
            Replace::Any => request,
            Replace::Same(etag) => request.header(header::IF_MATCH, etag),
            Replace::Nothing => request.header(header::IF_NONE_MATCH, "*"),
        };
        self.entry(request.body(body)).await
    }

    /// Adds to a file, from `offset` on.
    pub(crate) async fn append(
        &self,
        session: &str,
        path: &Path,
        offset: u64,
        mode: u32,
        body: Body,
    ) -> Result<FileEntry, Failure> {
        let (offset, mode) = (offset.to_string(), format!("{mode:03o}"));
        let query = [
            ("path", path.as_os_str()),
            ("offset", OsStr::new(&offset)),
            ("mode", OsStr::new(&mode)),
        ];
        let url = self.files(session, &["append"], &query);
        self.entry(self.begin(Method::POST, url).body(body)).await
    }

    /// Begins to read a tree, as a tar stream.
    pub(crate) async fn fetch_tree(
        &self,
        session: &str,
        path: &Path,
        exact_times: bool,
    ) -> Result<Response, Failure> {
        let exact = OsStr::new(if exact_times { "true" } else { "false" });
        let query = [("path", path.as_os_str()), ("exact_times", exact)];
        self.whole(self.begin(Method::GET, self.files(session, &["tar"], &query))).await
    }

    /// Puts a tree into a directory.
    pub(crate) async fn store_tree(
        &self,
        session: &str,
        path: &Path,
        keep_times: bool,
        body: Body,
    ) -> Result<(), Failure> {
        let now = OsStr::new(if keep_times { "false" } else { "true" });
        let query = [("path", path.as_os_str()), ("any_links", OsStr::new("true")), ("now", now)];
        let url = self.files(session, &["tar"], &query);
        self.whole(self.begin(Method::PUT, url).body(body)).await.map(drop)
    }

    async fn entry(&self, request: RequestBuilder) -> Result<FileEntry, Failure> {
        let answer = self.whole(request).await?;
        let bytes = answer.bytes().await.map_err(|error| self.failure(&error))?;
        let raw: Box<RawValue> = serde_json::from_slice(&bytes).map_err(|e| strange(&e))?;
        read(&raw)
    }

    async fn whole(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let answer = request.send().await.map_err(|error| self.failure(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }
}

/// An entry's path as it really is.
pub(crate) fn real_path(entry: &FileEntry) -> PathBuf {
    exact(&entry.path, entry.path_base64.as_deref()).into()
}

/// Where a link really leads.
pub(crate) fn real_target(entry: &FileEntry) -> Option<OsString> {
    entry.target.as_ref().map(|target| exact(target, entry.target_base64.as_deref()))
}

fn exact(text: &str, base64: Option<&str>) -> OsString {
    let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
    bytes.map_or_else(|| OsString::from(text), OsString::from_vec)
}
