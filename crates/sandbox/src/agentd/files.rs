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
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use rclaude_types::{
    FileEntry, FileList,
    agentd::{MoveFile, User},
};

use super::{
    Client, Error, Result,
    connection::{Body, collect, empty, full, json_body},
};

/// How a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits; those of the file replaced, or 0644, if absent.
    pub mode: Option<u32>,
    /// Have it on the disk before the answer.
    pub sync: bool,
}

/// The bytes of a file or an archive as they arrive. Ends in an error if cut off.
#[derive(Debug)]
pub struct Content {
    /// Bytes to come, where known beforehand.
    pub length: Option<u64>,
    /// Size of the whole file, where a part was asked for.
    pub total: Option<u64>,
    body: Incoming,
}

impl Content {
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
        self.json(Method::GET, &self.at("files/stat", path.as_ref(), ""), empty()).await
    }

    /// What is in the directory `path`, by name.
    pub async fn list(&self, path: impl AsRef<Path>) -> Result<Vec<FileEntry>> {
        let list: FileList =
            self.json(Method::GET, &self.at("files/list", path.as_ref(), ""), empty()).await?;
        Ok(list.data)
    }

    /// The bytes of a file, or of a part of it. A part beyond the end is empty.
    pub async fn read(&self, path: impl AsRef<Path>, part: Option<Range<u64>>) -> Result<Content> {
        let range = match part {
            Some(part) if part.is_empty() => {
                return Err(Error::Unsayable("a part without a byte".to_owned()));
            }
            Some(part) => {
                HeaderValue::try_from(format!("bytes={}-{}", part.start, part.end - 1)).ok()
            }
            None => None,
        };
        let path = self.at("files", path.as_ref(), "");
        let response = self.send(Method::GET, &path, range, empty()).await?;
        let number = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        Ok(Content {
            length: number(header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            total: number(header::CONTENT_RANGE)
                .and_then(|text| text.rsplit_once('/')?.1.parse().ok()),
            body: response.into_body(),
        })
    }

    /// Puts a file in place, all of it or nothing; directories on the way are made.
    pub async fn write(
        &self,
        path: impl AsRef<Path>,
        content: Bytes,
        options: WriteOptions,
    ) -> Result<FileEntry> {
        self.put_file(path.as_ref(), full(content), options).await
    }

    /// As [`write`](Self::write), with content that comes piece by piece. An error among the
    /// pieces leaves the file as it was.
    pub async fn write_stream(
        &self,
        path: impl AsRef<Path>,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        options: WriteOptions,
    ) -> Result<FileEntry> {
        self.put_file(path.as_ref(), streamed(content), options).await
    }

    /// Removes a file or an empty directory, or with `recursive` a whole tree (links are removed,
    /// not followed).
    pub async fn remove(&self, path: impl AsRef<Path>, recursive: bool) -> Result<()> {
        let extra = if recursive { "&recursive=true" } else { "" };
        self.nothing(Method::DELETE, &self.at("files", path.as_ref(), extra), empty()).await
    }

    /// Moves a file or directory; a file that is there is replaced.
    pub async fn rename(&self, from: &str, to: &str) -> Result<()> {
        let body = json_body(&MoveFile { from: from.to_owned(), to: to.to_owned() })?;
        let path = format!("/v1/files/move?user={}", word(self.files_as));
        self.nothing(Method::POST, &path, body).await
    }

    /// Makes a directory and those on the way to it. One that is there is `Ok`.
    pub async fn make_directory(&self, path: impl AsRef<Path>) -> Result<FileEntry> {
        self.json(Method::PUT, &self.at("directories", path.as_ref(), ""), empty()).await
    }

    /// A tar archive of what is at `path`: of a directory its content, of a file the file.
    pub async fn tar(&self, path: impl AsRef<Path>) -> Result<Content> {
        let path = self.at("tar", path.as_ref(), "");
        let response = self.send(Method::GET, &path, None, empty()).await?;
        Ok(Content { length: None, total: None, body: response.into_body() })
    }

    /// Unpacks a tar archive into the directory `path`, which is made if missing. Entries that
    /// would leave it, and device nodes, are refused.
    pub async fn untar(
        &self,
        path: impl AsRef<Path>,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        self.nothing(Method::PUT, &self.at("tar", path.as_ref(), ""), streamed(archive)).await
    }

    async fn put_file(&self, path: &Path, body: Body, options: WriteOptions) -> Result<FileEntry> {
        let mut extra = format!("&sync={}", options.sync);
        if let Some(mode) = options.mode {
            extra = format!("{extra}&mode={mode:o}");
        }
        self.json(Method::PUT, &self.at("files", path, &extra), body).await
    }

    /// The address of an operation on `path`.
    fn at(&self, operation: &str, path: &Path, extra: &str) -> String {
        let user = word(self.files_as);
        format!("/v1/{operation}?user={user}&path={}{extra}", encode(path.as_os_str()))
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
