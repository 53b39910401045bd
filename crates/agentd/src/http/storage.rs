//! Requests about files.

use std::{
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    rc::Rc,
};

use bytes::{Buf, Bytes};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE},
};
use rclaude_types::{ErrorCode, agentd::MoveFile};
use tokio::{sync::mpsc, task::spawn_local};

use super::{
    Body, body,
    input::{self, Query},
};
use crate::{
    daemon::Daemon,
    files,
    refusal::{Doing, Refusal, Result},
    sys::rights,
};

/// Read or packed at once.
const PIECE: usize = 64 * 1024;

pub(super) async fn stat(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("look at {}", path.display());
    let entry = files::job(rights, doing, move || files::stat(&path)).await?;
    body::json(StatusCode::OK, &entry)
}

pub(super) async fn list(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("list {}", path.display());
    let list = files::job(rights, doing, move || files::list(&path)).await?;
    body::json(StatusCode::OK, &list)
}

pub(super) async fn read(
    daemon: &Daemon,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("read {}", path.display());
    let (file, size) = files::job(rights, doing, move || files::open_file(&path)).await?;
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let part = range.and_then(|text| part(text, size));
    let (start, end) = part.unwrap_or((0, size));
    // Once open, no more rights are needed, and reading what the kernel has at hand is quick.
    let (pieces, content) = mpsc::channel(1);
    spawn_local(async move {
        let mut at = start;
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; length];
            let read = file.read_exact_at(&mut piece, at);
            at += length as u64;
            let failed = read.is_err();
            if pieces.send(read.map(|()| Bytes::from(piece))).await.is_err() || failed {
                return;
            }
        }
    });
    let mut response = body::bytes(Body::Pieces(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if part.is_some() {
        let shown = match end.checked_sub(1) {
            Some(last) if end > start => format!("bytes {start}-{last}/{size}"),
            _ => format!("bytes */{size}"),
        };
        if let Ok(value) = HeaderValue::try_from(shown) {
            headers.insert(CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The part of a file that a `Range` asks for, as start and end; `None` if it asks in a way that
/// is not understood, which RFC 9110 has answered with the whole.
fn part(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", suffix) => (size.saturating_sub(suffix.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1)),
    };
    let start = start.min(size);
    Some((start, end.clamp(start, size)))
}

pub(super) async fn write(
    daemon: &Daemon,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let (mode, sync) = (query.mode()?, query.flag("sync")?);
    let doing = format!("write {}", path.display());
    let begin = {
        let path = path.clone();
        move || files::NewFile::begin(&path, mode, rights)
    };
    let mut new = files::job(rights, doing.clone(), begin).await?;
    while let Some(data) = input::next(&mut request).await? {
        new.file.write_all(&data).doing(|| doing.clone())?;
    }
    let finish = move || {
        new.finish(sync)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, finish).await?)
}

pub(super) async fn remove(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let recursive = query.flag("recursive")?;
    let doing = format!("remove {}", path.display());
    files::job(rights, doing, move || files::remove(&path, recursive)).await?;
    Ok(body::done())
}

pub(super) async fn rename(
    daemon: &Daemon,
    query: &Query,
    request: Incoming,
) -> Result<Response<Body>> {
    let rights = daemon.rights(query.user()?)?;
    let MoveFile { from, to } = input::json(request).await?;
    let doing = format!("move {from} to {to}");
    let (from, to) = (input::absolute(from.into())?, input::absolute(to.into())?);
    files::job(rights, doing, move || files::rename(&from, &to)).await?;
    Ok(body::done())
}

pub(super) async fn make_directory(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("make {}", path.display());
    let make = move || {
        files::make_directory(&path)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, make).await?)
}

pub(super) async fn pack(daemon: &Rc<Daemon>, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("pack {}", path.display());
    // What is not there is said before the answer begins.
    let there = path.clone();
    files::job(rights, doing, move || files::stat(&there)).await?;
    let (pieces, content) = mpsc::channel(1);
    let daemon = Rc::clone(daemon);
    spawn_local(async move {
        let Ok(_turn) = daemon.archives.acquire().await else { return };
        let work = move || {
            let mut to = io::BufWriter::with_capacity(PIECE, Sender(pieces));
            let packed = rights::with(rights, || files::pack(&path, &mut to));
            if let Err(error) = packed.and_then(|()| to.flush()) {
                // An archive cut off by an error must not look whole.
                let _gone = to.get_ref().0.blocking_send(Err(error));
            }
        };
        let _done = tokio::task::spawn_blocking(work).await;
    });
    Ok(body::answer(StatusCode::OK, "application/x-tar", Body::Pieces(content)))
}

pub(super) async fn unpack(
    daemon: &Daemon,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let doing = format!("unpack into {}", path.display());
    let _turn = daemon
        .archives
        .acquire()
        .await
        .map_err(|_| Refusal::new(ErrorCode::ShuttingDown, "the sandbox is shutting down"))?;
    let (pieces, content) = mpsc::channel(1);
    let job = files::job(rights, doing, move || {
        files::unpack(&path, Receiver { pieces: content, rest: Bytes::new() })
    });
    let feed = async move {
        loop {
            let piece = match input::next(&mut request).await {
                Ok(Some(data)) => Ok(data),
                Ok(None) => return,
                Err(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            };
            let broke = piece.is_err();
            if pieces.send(piece).await.is_err() || broke {
                return;
            }
        }
    };
    let (unpacked, ()) = tokio::join!(job, feed);
    unpacked.map(|()| body::done())
}

/// The end of a channel as something to write to.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_to_what_there_is() {
        for (text, want) in [
            ("bytes=0-4", Some((0, 5))),
            ("bytes=5-", Some((5, 10))),
            ("bytes=-3", Some((7, 10))),
            ("bytes=8-99", Some((8, 10))),
            ("bytes=99-100", Some((10, 10))),
            ("lines=1-2", None),
        ] {
            assert_eq!(part(text, 10), want, "{text}");
        }
    }
}
