//! Requests for whole trees, as tar archives.

use std::{
    io::{self, Read, Write},
    rc::Rc,
};

use bytes::{Buf, Bytes};
use hyper::{Response, StatusCode, body::Incoming};
use rclaude_tree::{Pack, Unpack};
use rclaude_types::ErrorCode;
use tokio::{sync::mpsc, task::spawn_local};

use super::{
    Body, body,
    input::{self, Query},
};
use crate::{
    daemon::Daemon,
    files,
    refusal::{Refusal, Result},
    sys::rights,
};

/// Packed at once.
const PIECE: usize = 64 * 1024;

pub(super) async fn pack(daemon: &Rc<Daemon>, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let pack = Pack { exact_times: query.flag("times")?, ..Pack::default() };
    let doing = format!("pack {}", path.display());
    // What is not there is said before the answer begins.
    let there = path.clone();
    files::job(rights, doing, move || files::stat(&there)).await?;
    let (pieces, content) = mpsc::channel(1);
    let daemon = Rc::clone(daemon);
    spawn_local(async move {
        let Ok(_turn) = daemon.long_work.acquire().await else { return };
        let work = move || {
            let mut to = io::BufWriter::with_capacity(PIECE, Sender(pieces));
            let packed = rights::with(rights, || pack.pack(&path, &mut to));
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
    let unpack = Unpack {
        any_links: query.flag("any_links")?,
        times: !query.flag("now")?,
        ..Unpack::default()
    };
    let doing = format!("unpack into {}", path.display());
    let _turn = daemon
        .long_work
        .acquire()
        .await
        .map_err(|_| Refusal::new(ErrorCode::ShuttingDown, "the sandbox is shutting down"))?;
    let (pieces, content) = mpsc::channel(1);
    let job = files::job(rights, doing, move || {
        unpack.unpack(&path, Receiver { pieces: content, rest: Bytes::new() })
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
