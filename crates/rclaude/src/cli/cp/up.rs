//! Into a session.

use std::{
    fs::{self, Metadata},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use rclaude_tree::Pack;
use rclaude_types::{ChangeFile, FileKind, Timestamp};
use reqwest::Body;
use tokio::{io::AsyncSeekExt, sync::mpsc};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::{How, Patience, Remote, about, stat, umask};
use crate::{
    client::{Client, Replace},
    exit::Failure,
    ui::Counter,
};

/// Read at once.
const PIECE: usize = 256 * 1024;

/// A larger file is sent so that it can be taken up in the middle.
const LARGE: u64 = 16 * 1024 * 1024;

/// Puts standard input into a file.
pub(super) async fn standard_input(
    client: &Client,
    to: &Remote,
    counter: &Counter,
) -> Result<(), Failure> {
    let counter = counter.clone();
    let input = ReaderStream::with_capacity(tokio::io::stdin(), PIECE)
        .inspect_ok(move |piece| counter.add(piece.len() as u64));
    let body = Body::wrap_stream(input);
    client.store(&to.session, to.path(), None, &Replace::Any, body).await.map(drop)
}

/// Puts a file into a session.
pub(super) async fn file(
    client: &Client,
    from: &Path,
    source: &Metadata,
    to: &Remote,
    how: How,
    counter: &Counter,
) -> Result<(), Failure> {
    let there = stat(client, to).await?;
    if there.as_ref().is_some_and(|entry| entry.kind == FileKind::Directory) {
        return Err(Failure::Usage(format!("{to} is a directory")));
    }
    let bits = source.permissions().mode() & 0o777;
    // As `cp` has it: a file that is there keeps its mode, a new one gets what the umask leaves.
    let mode = match (&there, how.preserve) {
        (_, true) => bits,
        (Some(entry), false) => entry.mode & 0o777,
        (None, false) => bits & !umask(),
    };
    if source.is_file() {
        counter.expect(source.len());
    }
    if source.is_file() && source.len() > LARGE {
        large(client, from, source, to, (mode, how), counter).await?;
    } else {
        small(client, from, to, mode, counter).await?;
    }
    if how.preserve && source.len() <= LARGE {
        client.change_file(&to.session, to.path(), &times(source)).await?;
    }
    Ok(())
}

async fn small(
    client: &Client,
    from: &Path,
    to: &Remote,
    mode: u32,
    counter: &Counter,
) -> Result<(), Failure> {
    let mut patience = Patience::default();
    loop {
        counter.set(0);
        let body = content(from, 0, counter).await?;
        match client.store(&to.session, to.path(), Some(mode), &Replace::Any, body).await {
            Ok(_) => return Ok(()),
            Err(failure) => patience.wait(failure, 0).await?,
        }
    }
}

/// Sends a file under a passing name, from where the last try ended, and moves it into place once
/// it is whole.
async fn large(
    client: &Client,
    from: &Path,
    source: &Metadata,
    to: &Remote,
    (mode, how): (u32, How),
    counter: &Counter,
) -> Result<(), Failure> {
    let name = format!(".rclaude-part-{}", Uuid::now_v7().simple());
    let part = Remote { session: to.session.clone(), path: to.beside(&name) };
    let sent = async {
        send(client, from, source, &part, mode, counter).await?;
        // What is there already has its mode from the first byte on; the umask may have cut it.
        let dress = ChangeFile { mode: Some(mode), ..ChangeFile::default() };
        let dress =
            if how.preserve { ChangeFile { mode: Some(mode), ..times(source) } } else { dress };
        client.change_file(&part.session, part.path(), &dress).await?;
        client.relocate(&to.session, "move", (part.path(), to.path()), false).await.map(drop)
    }
    .await;
    if sent.is_err() {
        // Whoever cannot be reached cannot be asked to clean up either.
        let _left = client.remove_file(&part.session, part.path(), false).await;
    }
    sent
}

async fn send(
    client: &Client,
    from: &Path,
    source: &Metadata,
    part: &Remote,
    mode: u32,
    counter: &Counter,
) -> Result<(), Failure> {
    let mut patience = Patience::default();
    let mut at = 0;
    loop {
        counter.set(at);
        let body = content(from, at, counter).await?;
        let failure = match client.append(&part.session, part.path(), at, mode, body).await {
            Ok(entry) => {
                unchanged(from, source)?;
                if entry.size == source.len() {
                    return Ok(());
                }
                let text = format!("{} of {} bytes arrived", entry.size, source.len());
                return Err(Failure::Failed(text));
            }
            Err(failure) => failure,
        };
        // Our own file may be what failed.
        unchanged(from, source)?;
        patience.wait(failure, at).await?;
        at = match stat(client, part).await {
            Ok(entry) => entry.map_or(0, |entry| entry.size.min(source.len())),
            // Still out of reach: the next try finds out.
            Err(Failure::Unreachable { .. }) => at,
            Err(failure) => return Err(failure),
        };
    }
}

/// A file that is written to while it is sent would arrive as a mixture.
fn unchanged(from: &Path, source: &Metadata) -> Result<(), Failure> {
    let now = fs::metadata(from).map_err(|error| about(from, &error))?;
    let identity = |it: &Metadata| (it.dev(), it.ino(), it.len(), it.mtime(), it.mtime_nsec());
    if identity(&now) == identity(source) {
        return Ok(());
    }
    Err(Failure::Failed(format!("{} changed while it was sent", from.display())))
}

/// A file's bytes from an offset on, counted as they are taken.
async fn content(from: &Path, at: u64, counter: &Counter) -> Result<Body, Failure> {
    let mut file = tokio::fs::File::open(from).await.map_err(|error| about(from, &error))?;
    if at > 0 {
        file.seek(io::SeekFrom::Start(at)).await?;
    }
    let counter = counter.clone();
    let pieces = ReaderStream::with_capacity(file, PIECE)
        .inspect_ok(move |piece| counter.add(piece.len() as u64));
    Ok(Body::wrap_stream(pieces))
}

/// The times of a file here, as a change of one there.
fn times(source: &Metadata) -> ChangeFile {
    let nanos = source.mtime_nsec();
    let micros = source.mtime().saturating_mul(1_000_000).saturating_add(nanos / 1000);
    ChangeFile {
        mode: None,
        modified_at: Some(Timestamp::from_micros(micros)),
        modified_nanos: u16::try_from(nanos % 1000).unwrap_or(0),
    }
}

/// Puts a tree into a session, as one stream.
pub(super) async fn tree(
    client: &Client,
    from: &Path,
    to: &Remote,
    how: How,
    counter: &Counter,
) -> Result<(), Failure> {
    let (pieces, content) = mpsc::channel::<io::Result<Bytes>>(4);
    let mode_mask = if how.preserve { 0o777 } else { 0o777 & !umask() };
    let pack = Pack { mode_mask, exact_times: how.preserve };
    let source = from.to_owned();
    let packing = tokio::task::spawn_blocking(move || {
        let mut to = io::BufWriter::with_capacity(PIECE, Sender(pieces));
        let packed = pack.pack(&source, &mut to).and_then(|()| to.flush());
        if packed.is_err() {
            // What is cut off must not look whole.
            let broken = io::Error::other("the tree could not be read");
            let _gone = to.get_ref().0.blocking_send(Err(broken));
        }
        packed
    });
    let counter = counter.clone();
    let body = stream::unfold(content, |mut content| async {
        content.recv().await.map(|piece| (piece, content))
    })
    .inspect(move |piece| counter.add(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
    let stored =
        client.store_tree(&to.session, to.path(), how.preserve, Body::wrap_stream(body)).await;
    let packed = packing.await.map_err(|error| Failure::Failed(error.to_string()))?;
    match (packed, stored) {
        // Nobody to write to is the other end's failure, not this one's.
        (Err(error), stored) if error.kind() != io::ErrorKind::BrokenPipe || stored.is_ok() => {
            return Err(about(from, &error));
        }
        (_, stored) => stored?,
    }
    if how.preserve {
        let source = fs::metadata(from).map_err(|error| about(from, &error))?;
        let mode = Some(source.permissions().mode() & 0o777);
        let dress = ChangeFile { mode, ..times(&source) };
        client.change_file(&to.session, to.path(), &dress).await?;
    }
    Ok(())
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(data);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
