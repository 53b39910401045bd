//! A session as one encrypted file that needs nothing of this server.
//!
//! The file is a vault of its own, packed: layers, the repository's trees, the objects that the
//! session borrows from its mirror, turns and log. All of it is made in a scratch place first, so
//! that what goes wrong is told as a problem and never as half a file.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use rclaude_store::{carry, checkpoint::CheckpointRow, event, session};
use rclaude_types::{Problem, SessionId};
use rclaude_vault::{Key, Location, Secret, SnapshotId, Vault, archive};
use tokio::sync::mpsc;

use super::{
    Snapshots,
    carried::{Carried, DOCUMENT, FORMAT, Part},
    failure::Failure,
    keeping::digest,
    keyring,
};
use crate::{repo::Checkout, session::manager::SessionManager};

/// Bytes handed on at once.
const CHUNK: usize = 256 << 10;

/// An archive on its way to a caller.
pub(crate) struct Exported {
    /// The key that opens it, where no passphrase was given. It is nowhere else.
    pub(crate) key: Option<String>,
    /// Its bytes.
    pub(crate) bytes: BoxStream<'static, Result<Bytes, Problem>>,
}

impl Snapshots {
    /// Makes an archive of the session's present state.
    pub(crate) async fn export(
        &self,
        sessions: &SessionManager,
        id: &SessionId,
        passphrase: Option<Secret>,
    ) -> Result<Exported, Problem> {
        let _held = self.hold().await;
        let state = sessions.present_state(id).await?;
        // Of an archived session.
        self.fetch_held(&state.stack)
            .await
            .map_err(|why| Problem::new(rclaude_types::ErrorCode::SnapshotsUnavailable, why))?;
        Ok(self.pack(state, passphrase).await?)
    }

    async fn pack(
        &self,
        state: CheckpointRow,
        passphrase: Option<Secret>,
    ) -> Result<Exported, Failure> {
        let scratch = self.0.scratch.make("export").map_err(Failure::disk("making room"))?;
        let place = scratch.path().join("vault");
        let (key, shown) = if let Some(passphrase) = passphrase {
            (Key::Passphrase(passphrase), None)
        } else {
            let mut key = [0; 32];
            aws_lc_rs::rand::fill(&mut key)
                .map_err(|_| Failure::Other("no randomness".to_owned()))?;
            (Key::Random(key), Some(keyring::to_hex(&key)))
        };
        let vault = Vault::open_or_create(&Location::Dir(place.clone()), &key).await?;
        self.fill(&vault, &state, scratch.path()).await?;
        drop(vault);
        let header = serde_json::json!({
            "kind": "session",
            "version": env!("CARGO_PKG_VERSION"),
            "locked_with": if shown.is_some() { "key" } else { "passphrase" },
        });
        let (chunks, bytes) = mpsc::channel(4);
        // Ends when it is done, or when nobody reads any more.
        tokio::task::spawn_blocking(move || {
            let out = Channel { chunks: chunks.clone(), buffer: Vec::with_capacity(CHUNK) };
            if let Err(error) = archive::pack(&place, &header, out) {
                let _ = chunks.blocking_send(Err(Failure::from(error).into()));
            }
            drop(scratch);
        });
        Ok(Exported {
            key: shown,
            bytes: tokio_stream::wrappers::ReceiverStream::new(bytes).boxed(),
        })
    }

    async fn fill(
        &self,
        vault: &Vault,
        state: &CheckpointRow,
        scratch: &Path,
    ) -> Result<(), Failure> {
        let id = &state.checkpoint.session;
        let mut conn = self.0.store.read().await?;
        let row = session::get(&mut conn, id).await?;
        drop(conn);
        let checkout: Option<Checkout> =
            row.checkout.clone().and_then(|info| serde_json::from_value(info).ok());
        let mut stack = Vec::new();
        let layering = self
            .0
            .provider
            .layering()
            .ok_or_else(|| Failure::Other("no layers here".to_owned()))?;
        for layer in &state.stack {
            let Some(tree) = layering.layer(layer).await? else {
                return Err(Failure::Other(format!("layer {layer} is not on this disk")));
            };
            stack.push(part(vault, &tree, None).await?);
        }
        if let Some(checkout) = &checkout {
            let staged = scratch.join("repos");
            for tree in &checkout.layers {
                stack.push(part(vault, tree, None).await?);
            }
            for bind in &checkout.binds {
                let tree = self.0.repos.hold_still(&bind.source, &staged).await;
                let tree = tree.map_err(|error| Failure::Other(error.to_string()))?;
                let inside = bind.target.strip_prefix("/").unwrap_or(&bind.target).to_owned();
                stack.push(part(vault, &tree, Some(inside)).await?);
            }
        }
        let mut settings = row.settings.clone();
        settings.env.clone_from(&state.position.settings.env);
        // What it installed is among the files.
        settings.setup = None;
        let carried = Carried {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            session: id.clone(),
            name: row.name,
            checkpoint: state.checkpoint.id.clone(),
            at: self.0.clock.now(),
            settings,
            conversation: state.position.conversation.clone(),
            base_commit: row.base_commit,
            branch: row.branch,
            base_branch: checkout.as_ref().and_then(|checkout| checkout.base_branch.clone()),
            default_branch: checkout.as_ref().and_then(|checkout| checkout.default_branch.clone()),
            turn: state.checkpoint.turn.clone(),
            method: state.checkpoint.method,
            stack,
            turns: self.turns(vault, id, scratch).await?,
            log: self.log(vault, id, state.checkpoint.seq, scratch).await?,
        };
        let text = serde_json::to_vec(&carried).map_err(|e| Failure::Other(e.to_string()))?;
        Ok(vault.put(DOCUMENT, text).await?)
    }

    async fn turns(
        &self,
        vault: &Vault,
        id: &SessionId,
        scratch: &Path,
    ) -> Result<SnapshotId, Failure> {
        let mut lines = Lines::new(&scratch.join("turns"))?;
        let mut after = 0;
        loop {
            let mut conn = self.0.store.read().await?;
            let page = carry::turns(&mut conn, id, after, 256).await?;
            drop(conn);
            let Some(last) = page.last() else { break };
            after = last.number;
            page.iter().try_for_each(|turn| lines.push(turn))?;
        }
        Ok(vault.save_file(&lines.finish()?, "turns").await?.id)
    }

    /// The log as far as the state goes, and what followed without changing it.
    async fn log(
        &self,
        vault: &Vault,
        id: &SessionId,
        at_least: i64,
        scratch: &Path,
    ) -> Result<SnapshotId, Failure> {
        let mut lines = Lines::new(&scratch.join("log"))?;
        let mut conn = self.0.store.read().await?;
        let end = event::last_seq(&mut conn, id).await?.max(at_least);
        drop(conn);
        let mut after = 0;
        while after < end {
            let mut conn = self.0.store.read().await?;
            let page = event::after(&mut conn, id, after, 256).await?;
            drop(conn);
            let Some(last) = page.last() else { break };
            after = last.seq;
            page.iter().filter(|event| event.seq <= end).try_for_each(|event| lines.push(event))?;
        }
        Ok(vault.save_file(&lines.finish()?, "log").await?.id)
    }
}

async fn part(
    vault: &Vault,
    tree: &Path,
    inside: Option<std::path::PathBuf>,
) -> Result<Part, Failure> {
    let saved = vault.save(tree, "files").await?;
    let digest = digest(tree.to_owned()).await?.to_string();
    Ok(Part { snapshot: saved.id, digest, inside })
}

/// A file of JSON objects, one a line.
struct Lines {
    path: std::path::PathBuf,
    file: io::BufWriter<fs::File>,
}

impl Lines {
    fn new(path: &Path) -> Result<Self, Failure> {
        let file = fs::File::create_new(path).map_err(Failure::disk("writing the history"))?;
        Ok(Self { path: path.to_owned(), file: io::BufWriter::new(file) })
    }

    fn push(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let write = serde_json::to_writer(&mut self.file, value).map_err(io::Error::from);
        let write = write.and_then(|()| self.file.write_all(b"\n"));
        write.map_err(Failure::disk("writing the history"))
    }

    fn finish(mut self) -> Result<std::path::PathBuf, Failure> {
        self.file.flush().map_err(Failure::disk("writing the history"))?;
        Ok(self.path)
    }
}

/// Hands on what is written to it.
struct Channel {
    chunks: mpsc::Sender<Result<Bytes, Problem>>,
    buffer: Vec<u8>,
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.chunks.blocking_send(Ok(chunk.into()));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more"))
    }
}
