//! Watching a directory: as a stream, or by asking for news now and then.
//!
//! Our daemon tells what became of a path, E2B's the kernel's events one by one. A file that
//! appears, or stands in another's place, is told as E2B tells of one that is written: created,
//! its mode set, written. A change is told as a write, whatever of the file it was. A move is told
//! as a removal and a creation.

pub(super) mod poll;
mod stream;

use std::path::{Path, PathBuf};

use axum::{Router, routing::post};
use futures::{StreamExt, stream::BoxStream};
use rclaude_sandbox::agentd;
use rclaude_types::{FileChange, FileEvent, FileKind};
use serde::{Deserialize, Serialize};

use super::{
    filesystem::{Entry, look},
    guest::Guest,
};
use crate::{
    api::{
        Api,
        e2b::connect::{Error, Result},
    },
    session::manager::{file_events, leases::Open},
};

/// How long changes are gathered, in milliseconds: short, for clients look right after a write.
const GATHER: u32 = 5;

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/filesystem.Filesystem/WatchDir", post(stream::watch))
        .route("/filesystem.Filesystem/CreateWatcher", post(poll::create))
        .route("/filesystem.Filesystem/GetWatcherEvents", post(poll::news))
        .route("/filesystem.Filesystem/RemoveWatcher", post(poll::remove))
}

/// What is to be watched.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Watched {
    path: String,
    recursive: bool,
    include_entry: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Happened {
    name: String,
    r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Kind {
    #[serde(rename = "EVENT_TYPE_CREATE")]
    Create,
    #[serde(rename = "EVENT_TYPE_WRITE")]
    Write,
    #[serde(rename = "EVENT_TYPE_REMOVE")]
    Remove,
    #[serde(rename = "EVENT_TYPE_CHMOD")]
    Chmod,
}

/// A watch that has begun.
struct Watch {
    /// Keeps the session awake, and tells of its end.
    open: Open,
    client: agentd::Client,
    /// The directory as its events name it.
    root: PathBuf,
    include_entry: bool,
    events: BoxStream<'static, Result<FileEvent>>,
}

impl Watch {
    /// Begins it: whatever changes from now on is told.
    async fn begin(guest: &Guest, watched: &Watched) -> Result<Self> {
        let path = guest.path(&watched.path);
        let open = guest.open().await?;
        let client = open.client.files_as(guest.who.rights());
        let real = client.followed(&path).await?;
        if real.kind != FileKind::Directory {
            let text = format!("path {} not a directory", path.display());
            return Err(Error::invalid(text));
        }
        let root = PathBuf::from(real.path);
        let content = client.watch(&root, watched.recursive, GATHER).await?;
        let mut events = file_events(content).map(|event| Ok(event?)).boxed();
        match events.next().await {
            Some(Ok(FileEvent::Ready)) => {}
            Some(Err(error)) => return Err(error),
            _ => return Err(Error::gone()),
        }
        let include_entry = watched.include_entry;
        Ok(Self { open, client, root, include_entry, events })
    }

    /// What happened next; `None` once the directory is gone, or the sandbox.
    async fn next(&mut self) -> Option<Result<Vec<Happened>>> {
        let gone = self.open.gone();
        let event = tokio::select! {
            event = self.events.next() => event?,
            () = gone => return Some(Err(Error::gone())),
        };
        if let Ok(
            FileEvent::Created(change) | FileEvent::Modified(change) | FileEvent::Removed(change),
        ) = &event
            && is_passing(&change.path)
        {
            return Some(Ok(Vec::new()));
        }
        let (change, kinds): (_, &[Kind]) = match event {
            Ok(FileEvent::Created(change)) if change.directory => (change, &[Kind::Create]),
            Ok(FileEvent::Created(change)) => (change, &[Kind::Create, Kind::Chmod, Kind::Write]),
            Ok(FileEvent::Modified(change)) if change.directory => (change, &[Kind::Chmod]),
            Ok(FileEvent::Modified(change)) => (change, &[Kind::Write]),
            Ok(FileEvent::Removed(change)) => (change, &[Kind::Remove]),
            Ok(FileEvent::Ready) => return Some(Ok(Vec::new())),
            Ok(FileEvent::Overflow) => {
                let text = "more changed than could be told; list the directory and watch it anew";
                return Some(Err(Error::new(
                    crate::api::e2b::connect::Code::ResourceExhausted,
                    text,
                )));
            }
            Err(error) => return Some(Err(error)),
        };
        // Of what is gone there is none.
        let entry = if self.include_entry && !kinds.contains(&Kind::Remove) {
            look(&self.client, Path::new(&change.path)).await.ok()
        } else {
            None
        };
        let happened = |kind: &Kind| Happened {
            name: self.name(&change),
            r#type: *kind,
            entry: entry.clone(),
        };
        Some(Ok(kinds.iter().map(happened).collect()))
    }

    /// The path from the directory that is watched.
    fn name(&self, change: &FileChange) -> String {
        let path = Path::new(&change.path);
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// Whether a file has the name under which our daemon writes what is not whole yet.
fn is_passing(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_prefix(".rclaude-")
        .is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_files_that_are_not_whole_yet_are_known() {
        assert!(is_passing("/workspace/.rclaude-0123456789abcdef"));
        for path in ["/workspace/.rclaude", "/.rclaude-0123456789abcdeg", "/a/.rclaude-01/b"] {
            assert!(!is_passing(path), "{path}");
        }
    }
}
