//! Files in a session, through its daemon and with the agent's rights. Paths are bytes: relative
//! ones are relative to the workspace. The sandbox's root is the end of every path.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::HeaderMap;
use rclaude_sandbox::agentd::{
    self, Condition, Content, Listing, Part, Search, Untar, WriteOptions,
};
use rclaude_types::{
    ChangeFile, ErrorCode, FileEntry, FileEvent, FileList, FileSearch, Problem, SessionId,
};

use super::{
    Idempotency, Result, SessionManager,
    once::{self, Once},
    problems::{from_daemon, from_store},
};
use crate::session::inside::WORKSPACE;

/// Longest line of a watch: a path in base64, and what is around it.
const MAX_EVENT: usize = 64 * 1024;

/// What comes from a request, piece by piece.
pub type Upload = BoxStream<'static, std::io::Result<Bytes>>;

/// What goes to a caller, piece by piece.
pub type Download = BoxStream<'static, Result<Bytes>>;

/// A file on its way out.
#[expect(missing_debug_implementations, reason = "a stream")]
pub struct FileBytes {
    /// How long, which part, of what state of the file: as the daemon said.
    pub headers: HeaderMap,
    /// The bytes.
    pub bytes: Download,
}

/// How bytes are added to a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Append {
    /// Where the first goes; behind the last that is there if absent.
    pub offset: Option<u64>,
    /// Permission bits of a file that is made for it.
    pub mode: Option<u32>,
}

impl SessionManager {
    /// The daemon, for a caller who does much with files; paths are as it takes them. To be asked
    /// for anew with every file, as the session may have been set aside meanwhile.
    pub(crate) async fn files(&self, id: &SessionId) -> Result<agentd::Client> {
        self.client(id).await
    }

    /// A file's or directory's entry; of what a link leads to if `follow`.
    pub async fn stat(&self, id: &SessionId, path: &Path, follow: bool) -> Result<FileEntry> {
        let client = self.client(id).await?;
        let path = absolute(path);
        let found = if follow { client.followed(path).await } else { client.stat(path).await };
        found.map_err(from_daemon)
    }

    /// A page of a directory's entries.
    pub async fn list_files(
        &self,
        id: &SessionId,
        path: &Path,
        listing: &Listing,
    ) -> Result<FileList> {
        let client = self.client(id).await?;
        client.list(absolute(path), listing).await.map_err(from_daemon)
    }

    /// Lines of files.
    pub async fn search_files(
        &self,
        id: &SessionId,
        path: &Path,
        search: &Search,
    ) -> Result<FileSearch> {
        let client = self.client(id).await?;
        client.search(absolute(path), search).await.map_err(from_daemon)
    }

    /// What changes in a directory, until it is gone or the session is set aside.
    pub async fn watch_files(
        &self,
        id: &SessionId,
        path: &Path,
        recursive: bool,
        gather_millis: u32,
    ) -> Result<BoxStream<'static, Result<FileEvent>>> {
        let client = self.client(id).await?;
        let watching = client.watch(absolute(path), recursive, gather_millis);
        Ok(events(watching.await.map_err(from_daemon)?))
    }

    /// A file's bytes, all or a part.
    pub async fn read_file(&self, id: &SessionId, path: &Path, part: Part) -> Result<FileBytes> {
        let path = absolute(path);
        let client = self.client(id).await?;
        let content = client.read(&path, part).await.map_err(|error| match error.problem() {
            Some(problem) if problem.code == ErrorCode::Conflict => {
                let shown = path.display();
                let detail =
                    format!("{shown} is a directory; list it, or fetch it as a tar archive");
                Problem::new(ErrorCode::InvalidRequest, detail)
            }
            _ => from_daemon(error),
        })?;
        let headers = content.headers.clone();
        Ok(FileBytes { headers, bytes: download(content) })
    }

    /// Writes a file whole or not at all, making missing directories.
    pub async fn write_file(
        &self,
        id: &SessionId,
        path: &Path,
        mode: Option<u32>,
        condition: Condition,
        body: Upload,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        // What was acknowledged must survive the machine.
        let options = WriteOptions { mode, sync: true, condition };
        client.write_stream(absolute(path), body, &options).await.map_err(from_daemon)
    }

    /// Adds bytes to a file. What arrived of a body that broke off stays.
    pub async fn append_file(
        &self,
        id: &SessionId,
        path: &Path,
        append: Append,
        body: Upload,
        once: Option<Idempotency>,
    ) -> Result<FileEntry> {
        let path = absolute(path);
        self.once(id, &path, once, async |client| {
            client.append(&path, body, append.offset, append.mode, true).await
        })
        .await
    }

    /// Changes mode and time.
    pub async fn change_file(
        &self,
        id: &SessionId,
        path: &Path,
        change: &ChangeFile,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        client.change(absolute(path), change).await.map_err(from_daemon)
    }

    /// Makes a directory.
    pub async fn make_directory(
        &self,
        id: &SessionId,
        path: &Path,
        parents: bool,
        mode: Option<u32>,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        client.make_directory(absolute(path), parents, mode).await.map_err(from_daemon)
    }

    /// Makes a symbolic link. Where it leads is kept as it is given.
    pub async fn link_file(
        &self,
        id: &SessionId,
        path: &Path,
        target: &OsStr,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        client.link(absolute(path), target).await.map_err(from_daemon)
    }

    /// Moves a file or directory.
    pub async fn move_file(
        &self,
        id: &SessionId,
        from: &Path,
        to: &Path,
        condition: &Condition,
        once: Option<Idempotency>,
    ) -> Result<FileEntry> {
        let (from, to) = (absolute(from), absolute(to));
        let rename = async |client: agentd::Client| client.rename(&from, &to, condition).await;
        self.once(id, &to, once, rename).await
    }

    /// Copies a file, or with `recursive` a directory.
    pub async fn copy_file(
        &self,
        id: &SessionId,
        from: &Path,
        to: &Path,
        recursive: bool,
        condition: &Condition,
        once: Option<Idempotency>,
    ) -> Result<FileEntry> {
        let (from, to) = (absolute(from), absolute(to));
        let copy =
            async |client: agentd::Client| client.copy(&from, &to, recursive, condition).await;
        self.once(id, &to, once, copy).await
    }

    /// Removes a file, or a directory with `recursive`.
    pub async fn remove_file(&self, id: &SessionId, path: &Path, recursive: bool) -> Result<()> {
        let client = self.client(id).await?;
        client.remove(absolute(path), recursive).await.map_err(from_daemon)
    }

    /// A directory as a tar stream, with times to the nanosecond if wanted.
    pub async fn download_tar(
        &self,
        id: &SessionId,
        path: &Path,
        exact_times: bool,
    ) -> Result<Download> {
        let client = self.client(id).await?;
        Ok(download(client.tar(absolute(path), exact_times).await.map_err(from_daemon)?))
    }

    /// Unpacks a tar stream into a directory, making it if missing.
    pub async fn upload_tar(
        &self,
        id: &SessionId,
        path: &Path,
        how: Untar,
        body: Upload,
    ) -> Result<()> {
        let client = self.client(id).await?;
        client.untar(absolute(path), body, how).await.map_err(from_daemon)
    }

    /// Does what must not be done twice, and answers with what is at `path` then. A request whose
    /// key was noted is answered alone. (One that was done, and not noted as the server ended in
    /// between, is done again: what it moved is then not there any more, which it is told.)
    async fn once(
        &self,
        id: &SessionId,
        path: &Path,
        once: Option<Idempotency>,
        work: impl AsyncFnOnce(agentd::Client) -> Result<FileEntry, agentd::Error>,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        if self.made_before(once.as_ref()).await?.is_some() {
            return client.stat(path).await.map_err(from_daemon);
        }
        let done = work(client).await.map_err(from_daemon)?;
        if once.is_some() {
            let (now, made) = (self.engine.now(), id.to_string());
            let noted = self.engine.store.write(async move |tx| {
                let claimed: Option<Once<String>> = once::claim(tx, once.as_ref(), now).await?;
                if claimed.is_none() {
                    once::answer(tx, once.as_ref(), &made).await?;
                }
                Ok(())
            });
            noted.await.map_err(from_store)?;
        }
        Ok(done)
    }
}

fn download(content: Content) -> Download {
    content.map(|piece| piece.map_err(from_daemon)).boxed()
}

/// The lines of a watch as events. They come from a sandbox: each is bounded and read.
pub(crate) fn events(content: Content) -> BoxStream<'static, Result<FileEvent>> {
    let state = (content, BytesMut::new(), false);
    stream::unfold(state, |(mut content, mut buffer, mut ended)| async move {
        loop {
            if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end);
                buffer.advance(1);
                let event = serde_json::from_slice(&line).map_err(|_| strange());
                ended |= event.is_err();
                return Some((event, (content, buffer, ended)));
            }
            if ended {
                return None;
            }
            match content.next().await {
                Some(Ok(data)) if buffer.len() + data.len() <= MAX_EVENT.max(data.len()) => {
                    buffer.extend_from_slice(&data);
                }
                Some(Ok(_)) => return Some((Err(strange()), (content, BytesMut::new(), true))),
                Some(Err(error)) => {
                    return Some((Err(from_daemon(error)), (content, BytesMut::new(), true)));
                }
                None => return None,
            }
        }
    })
    .boxed()
}

fn strange() -> Problem {
    let detail = "the sandbox's daemon said what cannot be understood";
    Problem::new(ErrorCode::SandboxUnavailable, detail)
}

/// The path as the daemon takes it.
fn absolute(path: &Path) -> PathBuf {
    if path == Path::new(".") { PathBuf::from(WORKSPACE) } else { Path::new(WORKSPACE).join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_in_the_workspace() {
        for (path, wanted) in
            [(".", "/workspace"), ("a/b", "/workspace/a/b"), ("/etc/hosts", "/etc/hosts")]
        {
            assert_eq!(absolute(Path::new(path)), Path::new(wanted), "{path}");
        }
    }
}
