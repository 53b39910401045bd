//! Out of a session.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes};
use rclaude_tree::{Unpack, temporary};
use rclaude_types::FileEntry;
use tokio::sync::mpsc;

use super::{How, Patience, Remote, about, absolute, umask};
use crate::{
    client::{Client, Fetched, Wanted},
    exit::Failure,
    ui::Counter,
};

/// Reads a file to its end, over as many connections as that takes.
struct Reader<'a> {
    client: &'a Client,
    from: &'a Remote,
    patience: Patience,
    fetched: Option<Fetched>,
    etag: Option<String>,
    at: u64,
    size: Option<u64>,
}

/// What a reader comes by.
enum Piece {
    /// Bytes, at this place.
    Bytes(u64, Bytes),
    /// The file is another by now: what came so far is of no use.
    Changed,
    /// That was all.
    End,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client, from: &'a Remote) -> Self {
        let patience = Patience::default();
        Self { client, from, patience, fetched: None, etag: None, at: 0, size: None }
    }

    /// The next piece.
    async fn next(&mut self) -> Result<Piece, Failure> {
        loop {
            let Some(fetched) = &mut self.fetched else {
                if self.begin().await? {
                    return Ok(Piece::Changed);
                }
                continue;
            };
            let failure = match fetched.response.chunk().await {
                Ok(Some(bytes)) => {
                    let at = self.at;
                    self.at += bytes.len() as u64;
                    return Ok(Piece::Bytes(at, bytes));
                }
                Ok(None) if self.size.is_none_or(|size| size == self.at) => return Ok(Piece::End),
                Ok(None) => Failure::Unreachable {
                    url: self.client.url().to_string(),
                    reason: "the file broke off".to_owned(),
                },
                Err(error) => self.client.broke_off(&error),
            };
            self.fetched = None;
            self.patience.wait(failure, self.at).await?;
        }
    }

    /// Connects, to go on where the last connection ended; whether the file is another by now.
    async fn begin(&mut self) -> Result<bool, Failure> {
        let wanted = Wanted { from: self.at, etag: self.etag.clone() };
        match self.client.fetch(&self.from.session, self.from.path(), &wanted).await {
            Ok(fetched) => {
                let changed = self.at > 0 && fetched.from != self.at;
                self.at = fetched.from;
                self.size = fetched.size;
                self.etag.clone_from(&fetched.etag);
                self.fetched = Some(fetched);
                Ok(changed)
            }
            Err(failure) => {
                self.patience.wait(failure, self.at).await?;
                Ok(false)
            }
        }
    }

    /// The file's mode and time, once something came.
    fn about(&self) -> (Option<u32>, Option<(i64, u32)>) {
        self.fetched.as_ref().map_or((None, None), |it| (it.mode, it.modified))
    }
}

/// Copies a file to standard output.
pub(in crate::cli) async fn standard_output(
    client: &Client,
    from: &Remote,
    counter: &Counter,
) -> Result<(), Failure> {
    let mut reader = Reader::new(client, from);
    loop {
        match reader.next().await? {
            Piece::Bytes(_, bytes) => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()?;
                counter.add(bytes.len() as u64);
            }
            Piece::Changed => {
                return Err(Failure::Failed(format!("{from} changed while it was read")));
            }
            Piece::End => return Ok(()),
        }
    }
}

/// A file's bytes, and what names their state.
pub(in crate::cli) async fn whole(
    client: &Client,
    from: &Remote,
) -> Result<(Vec<u8>, String), Failure> {
    let (mut reader, mut whole) = (Reader::new(client, from), Vec::new());
    loop {
        match reader.next().await? {
            Piece::Bytes(_, bytes) => whole.extend_from_slice(&bytes),
            Piece::Changed => whole.clear(),
            Piece::End => return Ok((whole, reader.etag.unwrap_or_default())),
        }
    }
}

/// Copies a file to one here.
pub(super) async fn file(
    client: &Client,
    from: &Remote,
    to: &Path,
    how: How,
    counter: &Counter,
) -> Result<(), Failure> {
    // A link is gone through, as `cp` does; a pipe or a device is written to, not replaced.
    let to = fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    let there = fs::metadata(&to).ok();
    if there.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Failure::Usage(format!("{} is a directory", to.display())));
    }
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return into_special(client, from, &to, counter).await;
    }
    let to = absolute(&to)?;
    let above = to.parent().unwrap_or_else(|| Path::new("/"));
    let failed = |error: &io::Error| about(&to, error);
    let directory = File::open(above).map_err(|error| about(above, &error))?;
    let (file, name) = temporary(&directory).map_err(|error| failed(&error))?;
    let passing = above.join(name);
    let received = async {
        let mut reader = Reader::new(client, from);
        loop {
            match reader.next().await? {
                Piece::Bytes(at, bytes) => {
                    file.write_all_at(&bytes, at).map_err(|error| failed(&error))?;
                    counter.set(at + bytes.len() as u64);
                }
                Piece::Changed => {
                    file.set_len(0).map_err(|error| failed(&error))?;
                    counter.set(0);
                }
                Piece::End => break,
            }
        }
        let (mode, modified) = reader.about();
        let bits = mode.unwrap_or(0o644) & 0o777;
        let mode = match (&there, how.preserve) {
            (_, true) => bits,
            (Some(there), false) => there.permissions().mode() & 0o7777,
            (None, false) => bits & !umask(),
        };
        let finish = || {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            if let Some(modified) = modified.filter(|_| how.preserve) {
                file.set_modified(moment(modified))?;
            }
            file.sync_all()?;
            fs::rename(&passing, &to)
        };
        finish().map_err(|error| failed(&error))
    }
    .await;
    if received.is_err() {
        let _left = fs::remove_file(&passing);
    }
    received
}

fn moment((seconds, nanos): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + Duration::from_nanos(nanos.into())
}

async fn into_special(
    client: &Client,
    from: &Remote,
    to: &Path,
    counter: &Counter,
) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).open(to).map_err(|error| about(to, &error))?;
    let mut reader = Reader::new(client, from);
    loop {
        match reader.next().await? {
            Piece::Bytes(_, bytes) => {
                file.write_all(&bytes).map_err(|error| about(to, &error))?;
                counter.add(bytes.len() as u64);
            }
            Piece::Changed => {
                return Err(Failure::Failed(format!("{from} changed while it was read")));
            }
            Piece::End => return Ok(()),
        }
    }
}

/// Copies a tree to a directory here. What comes is a sandbox's word: nothing of it is written
/// beside the directory, and no setuid bit comes along.
pub(super) async fn tree(
    client: &Client,
    from: &Remote,
    entry: &FileEntry,
    to: &Path,
    how: How,
    counter: &Counter,
) -> Result<(), Failure> {
    let to = absolute(to)?;
    let mut archive = client.fetch_tree(&from.session, from.path(), how.preserve).await?;
    let mode_mask = if how.preserve { 0o777 } else { 0o777 & !umask() };
    let unpack = Unpack { any_links: true, times: how.preserve, mode_mask };
    let (pieces, content) = mpsc::channel(4);
    let target = to.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack.unpack(&target, Receiver { pieces: content, rest: Bytes::new() })
    });
    let mut broke_off = None;
    loop {
        let piece = match archive.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                broke_off = Some(client.broke_off(&error));
                let cut = Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                let _gone = pieces.send(cut).await;
                break;
            }
        };
        counter.add(piece.len() as u64);
        if pieces.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(pieces);
    let unpacked = unpacking.await.map_err(|error| Failure::Failed(error.to_string()))?;
    if let Some(failure) = broke_off {
        return Err(failure);
    }
    unpacked.map_err(|error| about(&to, &error))?;
    if how.preserve {
        let dress = || {
            let micros = entry.modified_at.as_micros();
            let nanos = micros.rem_euclid(1_000_000) * 1000 + i64::from(entry.modified_nanos);
            let nanos = u32::try_from(nanos).unwrap_or(0);
            let directory = File::open(&to)?;
            directory.set_modified(moment((micros.div_euclid(1_000_000), nanos)))?;
            directory.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777))
        };
        dress().map_err(|error| about(&to, &error))?;
    }
    Ok(())
}

/// The end of a channel as something to read from.
struct Receiver {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
