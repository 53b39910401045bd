//! Files in a session, through its daemon and with the agent's rights.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use rclaude_sandbox::agentd::WriteOptions;
use rclaude_types::{ErrorCode, FileEntry, FileKind, Problem, SessionId};

use super::{Result, SessionManager, problems::from_daemon};
use crate::session::inside::WORKSPACE;

impl SessionManager {
    /// A file's or directory's entry. Relative paths are relative to the workspace.
    pub async fn stat(&self, id: &SessionId, path: &str) -> Result<FileEntry> {
        let client = self.client(id).await?;
        client.stat(absolute(path)?).await.map_err(from_daemon)
    }

    /// A directory's entries.
    pub async fn list_files(&self, id: &SessionId, path: &str) -> Result<Vec<FileEntry>> {
        let client = self.client(id).await?;
        client.list(absolute(path)?).await.map_err(from_daemon)
    }

    /// A file's bytes, all or a range, and its entry.
    pub async fn read_file(
        &self,
        id: &SessionId,
        path: &str,
        range: Option<Range<u64>>,
    ) -> Result<(FileEntry, BoxStream<'static, Result<Bytes>>)> {
        let path = absolute(path)?;
        let client = self.client(id).await?;
        let entry = client.stat(&path).await.map_err(from_daemon)?;
        if entry.kind == FileKind::Directory {
            let detail = format!("{path} is a directory; list it, or fetch it as a tar archive");
            return Err(Problem::new(ErrorCode::InvalidRequest, detail));
        }
        let content = client.read(&path, range).await.map_err(from_daemon)?;
        Ok((entry, content.map(|piece| piece.map_err(from_daemon)).boxed()))
    }

    /// Writes a file whole or not at all, making missing directories.
    pub async fn write_file(
        &self,
        id: &SessionId,
        path: &str,
        mode: Option<u32>,
        body: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<FileEntry> {
        let client = self.client(id).await?;
        // What was acknowledged must survive the machine.
        let options = WriteOptions { mode, sync: true };
        client.write_stream(absolute(path)?, body, options).await.map_err(from_daemon)
    }

    /// Removes a file, or a directory with `recursive`.
    pub async fn remove_file(&self, id: &SessionId, path: &str, recursive: bool) -> Result<()> {
        let client = self.client(id).await?;
        client.remove(absolute(path)?, recursive).await.map_err(from_daemon)
    }

    /// A directory as a tar stream.
    pub async fn download_tar(
        &self,
        id: &SessionId,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let client = self.client(id).await?;
        let content = client.tar(absolute(path)?).await.map_err(from_daemon)?;
        Ok(content.map(|piece| piece.map_err(from_daemon)).boxed())
    }

    /// Unpacks a tar stream into a directory, making it if missing.
    pub async fn upload_tar(
        &self,
        id: &SessionId,
        path: &str,
        body: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<()> {
        let client = self.client(id).await?;
        client.untar(absolute(path)?, body).await.map_err(from_daemon)
    }
}

/// The path as the daemon takes it.
fn absolute(path: &str) -> Result<String> {
    if path.contains('\0') {
        let detail = "path: a path cannot contain a NUL character";
        return Err(Problem::new(ErrorCode::InvalidRequest, detail));
    }
    Ok(match path {
        "" | "." => WORKSPACE.to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{WORKSPACE}/{path}"),
    })
}
