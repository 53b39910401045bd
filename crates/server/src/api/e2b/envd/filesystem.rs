//! `filesystem.Filesystem`: what is where, and changing it.

mod entry;

use std::path::{Path, PathBuf};

use axum::{Router, routing::post};
use futures::{StreamExt, TryStreamExt, stream};
use rclaude_sandbox::agentd::{self, Condition, Listing};
use rclaude_types::{ErrorCode, FileEntry, FileKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use self::entry::Entry;
use super::guest::Guest;
use crate::api::{
    Api,
    e2b::connect::{Code, Error, Result, Unary},
};

/// Levels of a directory at most.
const MAX_DEPTH: u32 = 100;
/// Entries of an answer at most: beyond it would be tens of megabytes of JSON.
const MAX_ENTRIES: usize = 100_000;
/// Links of a listing that are looked behind at once.
const LOOKS: usize = 16;

/// The service's routes, but for watches.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/filesystem.Filesystem/Stat", post(stat))
        .route("/filesystem.Filesystem/MakeDir", post(make_dir))
        .route("/filesystem.Filesystem/Move", post(rename))
        .route("/filesystem.Filesystem/ListDir", post(list))
        .route("/filesystem.Filesystem/Remove", post(remove))
}

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct At {
    path: String,
    depth: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Between {
    source: String,
    destination: String,
}

/// Answers with one entry.
#[derive(Debug, Serialize)]
struct One {
    entry: Entry,
}

#[derive(Debug, Serialize)]
struct Many {
    entries: Vec<Entry>,
}

async fn stat(guest: Guest, Unary(at): Unary<At>) -> Result<Unary<One>> {
    let (client, path) = (guest.files().await?, guest.path(&at.path));
    Ok(Unary(One { entry: look(&client, &path).await? }))
}

/// What is at a path; of a link, what it leads to shows beside it.
pub(super) async fn look(client: &agentd::Client, path: &Path) -> Result<Entry> {
    let found = client.stat(path).await?;
    Ok(shown(client, found, path.to_owned()).await)
}

/// An entry under its path. A link is of the kind of what it leads to.
async fn shown(client: &agentd::Client, found: FileEntry, path: PathBuf) -> Entry {
    let behind = match found.kind {
        FileKind::Symlink => client.followed(&path).await.ok(),
        _ => None,
    };
    Entry::of(found, behind, &path)
}

async fn make_dir(guest: Guest, Unary(at): Unary<At>) -> Result<Unary<One>> {
    let (client, path) = (guest.files().await?, guest.path(&at.path));
    match client.followed(&path).await {
        Ok(there) if there.kind == FileKind::Directory => {
            let text = format!("directory already exists: {}", path.display());
            return Err(Error::new(Code::AlreadyExists, text));
        }
        Ok(_) => {
            let shown = path.display();
            let text = format!("path already exists but it is not a directory: {shown}");
            return Err(Error::invalid(text));
        }
        Err(_nothing_there) => {}
    }
    let made = client.make_directory(&path, true, None).await?;
    Ok(Unary(One { entry: Entry::of(made, None, &path) }))
}

async fn rename(guest: Guest, Unary(between): Unary<Between>) -> Result<Unary<One>> {
    let client = guest.files().await?;
    let (from, to) = (guest.path(&between.source), guest.path(&between.destination));
    if let Some(parent) = to.parent() {
        client.make_directory(parent, true, None).await?;
    }
    let moved = client.rename(&from, &to, &Condition::None).await?;
    Ok(Unary(One { entry: shown(&client, moved, to).await }))
}

/// Removes whatever is there; what is not there is removed already.
async fn remove(guest: Guest, Unary(at): Unary<At>) -> Result<Unary<Value>> {
    let (client, path) = (guest.files().await?, guest.path(&at.path));
    match client.remove(&path, true).await {
        Err(error) if error.problem().is_some_and(|it| it.code == ErrorCode::FileNotFound) => {}
        other => other?,
    }
    Ok(Unary(json!({})))
}

async fn list(guest: Guest, Unary(at): Unary<At>) -> Result<Unary<Many>> {
    let (client, path) = (guest.files().await?, guest.path(&at.path));
    if client.followed(&path).await?.kind != FileKind::Directory {
        let text = format!("path is not a directory: {}", path.display());
        return Err(Error::invalid(text));
    }
    let depth = at.depth.clamp(1, MAX_DEPTH);
    let mut listing = Listing { depth, ..Listing::default() };
    let mut found: Vec<FileEntry> = Vec::new();
    loop {
        let page = client.list(&path, &listing).await?;
        found.extend(page.data);
        if found.len() > MAX_ENTRIES {
            let text = format!("more than {MAX_ENTRIES} entries; list with less depth");
            return Err(Error::new(Code::ResourceExhausted, text));
        }
        match page.next_cursor {
            Some(cursor) => listing.cursor = Some(cursor),
            None => break,
        }
    }
    let entries = stream::iter(found)
        .map(|entry| {
            let (client, path) = (client.clone(), PathBuf::from(&entry.path));
            async move { Ok::<_, Error>(shown(&client, entry, path).await) }
        })
        .buffered(LOOKS)
        .try_collect();
    Ok(Unary(Many { entries: entries.await? }))
}
