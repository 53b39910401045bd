//! Within a session, and from one to another.

use futures::TryStreamExt;
use rclaude_types::{ChangeFile, FileEntry, FileKind};
use reqwest::Body;

use super::{How, Remote, stat};
use crate::{
    client::{Client, Replace, Wanted},
    exit::Failure,
    ui::Counter,
};

/// Copies what `entry` is about.
pub(super) async fn copy(
    client: &Client,
    from: &Remote,
    entry: &FileEntry,
    to: &Remote,
    how: How,
    counter: &Counter,
) -> Result<(), Failure> {
    let is_directory = entry.kind == FileKind::Directory;
    let there = stat(client, to).await?;
    // Within a session nothing has to travel; but a directory that is there is added to, which
    // only a stream does.
    let occupied = there.as_ref().is_some_and(|there| there.kind == FileKind::Directory);
    if from.session == to.session && !(is_directory && occupied) && how.preserve {
        let real = crate::client::real_path(entry);
        client.relocate(&to.session, "copy", (&real, to.path()), how.recursive).await?;
        counter.set(entry.size);
        return Ok(());
    }
    let count = counter.clone();
    if is_directory {
        let archive = client.fetch_tree(&from.session, from.path(), how.preserve).await?;
        let pieces = archive.bytes_stream().inspect_ok(move |piece| count.add(piece.len() as u64));
        let body = Body::wrap_stream(pieces);
        client.store_tree(&to.session, to.path(), how.preserve, body).await?;
        if how.preserve {
            client.change_file(&to.session, to.path(), &dress(entry)).await?;
        }
        return Ok(());
    }
    let file = client.fetch(&from.session, from.path(), &Wanted::default()).await?;
    let mode = match (&there, how.preserve) {
        (Some(there), false) => there.mode,
        _ => file.mode.unwrap_or(entry.mode),
    };
    let pieces =
        file.response.bytes_stream().inspect_ok(move |piece| count.add(piece.len() as u64));
    let body = Body::wrap_stream(pieces);
    client.store(&to.session, to.path(), Some(mode & 0o777), &Replace::Any, body).await?;
    if how.preserve {
        client.change_file(&to.session, to.path(), &dress(entry)).await?;
    }
    Ok(())
}

fn dress(entry: &FileEntry) -> ChangeFile {
    ChangeFile {
        mode: Some(entry.mode & 0o777),
        modified_at: Some(entry.modified_at),
        modified_nanos: entry.modified_nanos,
    }
}
