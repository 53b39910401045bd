//! Files in the sandbox. Paths are absolute; a file's bytes and name need not be text.

use std::{
    ffi::OsStr,
    io,
    ops::Range,
    os::unix::ffi::OsStrExt,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use rclaude_types::{ChangeFile, FileEntry, FileList, FileSearch, agentd::User};

use super::{
    Client, Result,
    connection::{Body, collect, empty, full, json_body},
};

/// How a file is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits; those of the file replaced, or 0644, if absent.
    pub mode: Option<u32>,
    /// Have it on the disk before the answer.
    pub sync: bool,
    /// What must be in its place.
    pub condition: Condition,
}

/// What must be in a file's place for it to be replaced; otherwise the answer is
/// `precondition_failed`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is.
    #[default]
    None,
    /// A file with this tag ([`FileEntry::etag`]), or any (`*`).
    Match(String),
    /// Nothing at all.
    Absent,
}

/// Which bytes of a file are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// A range as `range` has it (RFC 9110, section 14.2): what is none, is ignored.
    pub range: Option<HeaderValue>,
    /// The tag, in quotes, that the file must have for the range to count (`if-range`).
    pub only_of: Option<HeaderValue>,
}

impl Part {
    /// From one offset to before another.
    pub fn of(range: Range<u64>) -> Self {
        let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        Self { range: HeaderValue::try_from(text).ok(), only_of: None }
    }
}

/// Which entries of a directory are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Levels; 0 and 1 are the directory's own entries.
    pub depth: u32,
    /// What paths, or names if it has no slash, must match.
    pub glob: Option<String>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Entries at most; 0 for as many as the daemon gives.
    pub limit: u32,
}

/// What lines to look for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Search {
    /// A regular expression, or a text.
    pub pattern: String,
    /// It is a text.
    pub literal: bool,
    /// Take capital and small letters for the same.
    pub ignore_case: bool,
    /// What paths, or names if it has no slash, must match.
    pub glob: Option<String>,
    /// Look into hidden files too.
    pub hidden: bool,
    /// Look into what ignore files name too.
    pub ignored: bool,
    /// Lines at most; 0 for as many as the daemon gives.
    pub limit: u32,
}

/// How a tree is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Untar {
    /// Make links as they are, wherever they lead.
    pub any_links: bool,
    /// Leave the archive's times aside.
    pub now: bool,
}

/// The bytes of a file or an archive as they arrive. Ends in an error if cut off.
#[derive(Debug)]
pub struct Content {
    /// Bytes to come, where known beforehand.
    pub length: Option<u64>,
    /// The headers that say more: which range, of what state of the file.
    pub headers: HeaderMap,
    body: Incoming,
}

impl Content {
    fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
        Self { length, headers: head.headers, body }
    }

    /// Reads all, refusing more than `limit` bytes.
    pub async fn bytes(self, limit: usize) -> Result<Bytes> {
        collect(self.body, limit).await
    }
}

impl Stream for Content {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Client {
    /// What is at `path`; a link is not followed.
    pub async fn stat(&self, path: impl AsRef<Path>) -> Result<FileEntry> {
        self.json(Method::GET, &self.at("files/stat", path.as_ref()).text, empty()).await
    }

    /// What `path` leads to, under its real path.
    pub async fn followed(&self, path: impl AsRef<Path>) -> Result<FileEntry> {
        let address = self.at("files/stat", path.as_ref()).flag("follow", true);
        self.json(Method::GET, &address.text, empty()).await
    }

    /// A page of what is in the directory `path`, in the order of the paths' components.
    pub async fn list(&self, path: impl AsRef<Path>, listing: &Listing) -> Result<FileList> {
        let address = self
            .at("files/list", path.as_ref())
            .number("depth", listing.depth.into())
            .number("limit", listing.limit.into())
            .word("glob", listing.glob.as_deref())
            .word("cursor", listing.cursor.as_deref());
        self.json(Method::GET, &address.text, empty()).await
    }

    /// Lines of the file, or of the tree, at `path`.
    pub async fn search(&self, path: impl AsRef<Path>, search: &Search) -> Result<FileSearch> {
        let address = self
            .at("files/search", path.as_ref())
            .word("pattern", Some(&search.pattern))
            .word("glob", search.glob.as_deref())
            .flag("literal", search.literal)
            .flag("ignore_case", search.ignore_case)
            .flag("hidden", search.hidden)
            .flag("ignored", search.ignored)
            .number("limit", search.limit.into());
        self.json(Method::GET, &address.text, empty()).await
    }

    /// Lines of JSON, each a [`FileEvent`](rclaude_types::FileEvent), as files in the directory
    /// `path` change. Changes are gathered for so many milliseconds (0: the daemon's own choice).
    pub async fn watch(
        &self,
        path: impl AsRef<Path>,
        recursive: bool,
        gather_millis: u32,
    ) -> Result<Content> {
        let address = self
            .at("files/watch", path.as_ref())
            .flag("recursive", recursive)
            .number("debounce_ms", gather_millis.into());
        Ok(Content::of(self.send(Method::GET, &address.text, HeaderMap::new(), empty()).await?))
    }

    /// The bytes of a file, or of a part of it. A part that lies behind its end is refused.
    pub async fn read(&self, path: impl AsRef<Path>, part: Part) -> Result<Content> {
        let mut headers = HeaderMap::new();
        headers.extend(part.range.map(|range| (header::RANGE, range)));
        headers.extend(part.only_of.map(|etag| (header::IF_RANGE, etag)));
        let address = self.at("files", path.as_ref()).text;
        Ok(Content::of(self.send(Method::GET, &address, headers, empty()).await?))
    }

    /// Puts a file in place, all of it or nothing; directories on the way are made.
    pub async fn write(
        &self,
        path: impl AsRef<Path>,
        content: Bytes,
        options: &WriteOptions,
    ) -> Result<FileEntry> {
        self.put_file(path.as_ref(), full(content), options).await
    }

    /// As [`write`](Self::write), with content that comes piece by piece. An error among the
    /// pieces leaves the file as it was.
    pub async fn write_stream(
        &self,
        path: impl AsRef<Path>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        options: &WriteOptions,
    ) -> Result<FileEntry> {
        self.put_file(path.as_ref(), streamed(content), options).await
    }

    /// Adds bytes to a file that is made if missing: at its end, or from `offset` on, which must
    /// not lie behind it. What arrived before an error stays.
    pub async fn append(
        &self,
        path: impl AsRef<Path>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        offset: Option<u64>,
        mode: Option<u32>,
        sync: bool,
    ) -> Result<FileEntry> {
        let mut address = self.at("files/append", path.as_ref()).mode(mode).flag("sync", sync);
        if let Some(offset) = offset {
            address = address.number("offset", offset);
        }
        self.json(Method::POST, &address.text, streamed(content)).await
    }

    /// Changes mode and time, through links.
    pub async fn change(&self, path: impl AsRef<Path>, change: &ChangeFile) -> Result<FileEntry> {
        let address = self.at("files", path.as_ref());
        self.json(Method::PATCH, &address.text, json_body(change)?).await
    }

    /// Removes a file or an empty directory, or with `recursive` a whole tree (links are removed,
    /// not followed).
    pub async fn remove(&self, path: impl AsRef<Path>, recursive: bool) -> Result<()> {
        let address = self.at("files", path.as_ref()).flag("recursive", recursive);
        self.nothing(Method::DELETE, &address.text, empty()).await
    }

    /// Moves a file or directory; what is replaced must meet `condition`.
    pub async fn rename(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        condition: &Condition,
    ) -> Result<FileEntry> {
        let address = self.between("files/move", from.as_ref(), to.as_ref()).condition(condition);
        self.json(Method::POST, &address.text, empty()).await
    }

    /// Copies a file, or with `recursive` a directory, with modes and times. It is there whole or
    /// not at all.
    pub async fn copy(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        recursive: bool,
        condition: &Condition,
    ) -> Result<FileEntry> {
        let address = self
            .between("files/copy", from.as_ref(), to.as_ref())
            .flag("recursive", recursive)
            .condition(condition);
        self.json(Method::POST, &address.text, empty()).await
    }

    /// Makes a directory; with `parents` those on the way to it as well, and one that is there is
    /// `Ok`.
    pub async fn make_directory(
        &self,
        path: impl AsRef<Path>,
        parents: bool,
        mode: Option<u32>,
    ) -> Result<FileEntry> {
        let address = self.at("directories", path.as_ref()).flag("parents", parents).mode(mode);
        self.json(Method::PUT, &address.text, empty()).await
    }

    /// Makes a symbolic link, where nothing is, that leads to `target`.
    pub async fn link(
        &self,
        path: impl AsRef<Path>,
        target: impl AsRef<OsStr>,
    ) -> Result<FileEntry> {
        let address = self.at("links", path.as_ref()).bytes("target", target.as_ref());
        self.json(Method::PUT, &address.text, empty()).await
    }

    /// A tar archive of what is at `path`: of a directory its content, of a file the file; with
    /// times to the nanosecond if wanted.
    pub async fn tar(&self, path: impl AsRef<Path>, exact_times: bool) -> Result<Content> {
        let address = self.at("tar", path.as_ref()).flag("times", exact_times);
        Ok(Content::of(self.send(Method::GET, &address.text, HeaderMap::new(), empty()).await?))
    }

    /// Unpacks a tar archive into the directory `path`, which is made if missing. Entries that
    /// would leave it, and device nodes, are refused.
    pub async fn untar(
        &self,
        path: impl AsRef<Path>,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        how: Untar,
    ) -> Result<()> {
        let address =
            self.at("tar", path.as_ref()).flag("any_links", how.any_links).flag("now", how.now);
        self.nothing(Method::PUT, &address.text, streamed(archive)).await
    }

    async fn put_file(&self, path: &Path, body: Body, options: &WriteOptions) -> Result<FileEntry> {
        let address = self
            .at("files", path)
            .mode(options.mode)
            .flag("sync", options.sync)
            .condition(&options.condition);
        self.json(Method::PUT, &address.text, body).await
    }

    /// The address of an operation on `path`.
    fn at(&self, operation: &str, path: &Path) -> Address {
        self.address(operation).bytes("path", path.as_os_str())
    }

    /// The address of an operation from one path to another.
    fn between(&self, operation: &str, from: &Path, to: &Path) -> Address {
        self.address(operation).bytes("from", from.as_os_str()).bytes("to", to.as_os_str())
    }

    fn address(&self, operation: &str) -> Address {
        Address { text: format!("/v1/{operation}?user={}", word(self.files_as)) }
    }
}

/// An address with its query, as it is put together.
struct Address {
    text: String,
}

impl Address {
    fn bytes(mut self, name: &str, value: &OsStr) -> Self {
        self.text.extend(["&", name, "=", &encode(value)]);
        self
    }

    fn word(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.bytes(name, OsStr::new(value)),
            None => self,
        }
    }

    fn flag(self, name: &str, value: bool) -> Self {
        if value { self.word(name, Some("true")) } else { self }
    }

    fn number(self, name: &str, value: u64) -> Self {
        self.word(name, Some(&value.to_string()))
    }

    fn mode(self, mode: Option<u32>) -> Self {
        self.word("mode", mode.map(|mode| format!("{mode:o}")).as_deref())
    }

    fn condition(self, condition: &Condition) -> Self {
        match condition {
            Condition::None => self,
            Condition::Match(etag) => self.word("if_match", Some(etag)),
            Condition::Absent => self.word("if_none_match", Some("*")),
        }
    }
}

fn word(user: User) -> &'static str {
    match user {
        User::Agent => "agent",
        User::Root => "root",
    }
}

pub(super) fn streamed(content: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(content.map_ok(Frame::data)).boxed_unsync()
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and the slash.
fn encode(path: &OsStr) -> String {
    let mut text = String::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(byte.into());
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            text.extend([
                '%',
                HEX[usize::from(byte >> 4)].into(),
                HEX[usize::from(byte & 15)].into(),
            ]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_can_be_said_in_an_address() {
        assert_eq!(encode(OsStr::from_bytes(b"/a b/\xff%?&")), "/a%20b/%FF%25%3F%26");
    }
}
