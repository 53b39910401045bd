//! Ports of a session, through its daemon.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use rclaude_sandbox::agentd::{self, PortStream};
use rclaude_types::{Port, SessionId};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, watch},
};
use tokio_util::{io::StreamReader, sync::PollSender};

use super::{
    Result, SessionManager,
    problems::{from_daemon, from_store},
};
use crate::session::live::Viewer;

/// A connection to a program in a session.
#[derive(Debug)]
pub(crate) struct Connected {
    arriving: PortStream,
    /// Closed to it when the session is set aside: what stands still sends no end.
    link: watch::Receiver<Option<agentd::Client>>,
    /// Keeps the session awake.
    _viewer: Viewer,
}

impl Connected {
    /// What the program sends next; `None` at the end of its side. An error where the connection
    /// broke, or the session was set aside.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, agentd::Error>> {
        tokio::select! {
            arrived = self.arriving.next() => arrived,
            _ = self.link.wait_for(|link| link.as_ref().is_none_or(agentd::Client::is_closed)) => {
                Some(Err(agentd::Error::Lost("the session was set aside".to_owned())))
            }
        }
    }
}

/// What goes to a program: bytes, or `None` for the end of that side. Dropping it without saying so
/// breaks the connection.
pub(crate) type Outgoing = mpsc::Sender<Option<Bytes>>;

/// What was sent, as a stream that ends where the sender said so, and breaks where it merely went.
pub(crate) fn until_end(
    taken: mpsc::Receiver<Option<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::unfold(Some(taken), async |taken| {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Some(bytes)) => Some((Ok(bytes), Some(taken))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
        }
    })
}

/// A connection to a program in a session, as a stream of bytes.
pub(crate) struct PortIo {
    reading: StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>,
    writing: PollSender<Option<Bytes>>,
}

impl std::fmt::Debug for PortIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortIo").finish_non_exhaustive()
    }
}

/// Pieces that may wait to be sent.
const WAITING: usize = 2;
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncRead for PortIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reading).poll_read(cx, into)
    }
}

impl AsyncWrite for PortIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.writing.poll_reserve(cx)).map_err(gone)?;
        let piece = &bytes[..bytes.len().min(PIECE)];
        self.writing.send_item(Some(Bytes::copy_from_slice(piece))).map_err(gone)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A program that takes nothing more needs no end.
        if ready!(self.writing.poll_reserve(cx)).is_ok() {
            let _gone = self.writing.send_item(None);
            self.writing.close();
        }
        Poll::Ready(Ok(()))
    }
}

impl SessionManager {
    /// Ports on which programs in the session listen (waking it if it is paused), by number.
    pub async fn ports(&self, id: &SessionId) -> Result<Vec<Port>> {
        self.client(id).await?.ports().await.map_err(from_daemon)
    }

    /// Connects to a port (waking the session if it is paused). What `outgoing` gives is sent; its
    /// end ends that side, its error breaks the connection.
    pub(crate) async fn connect_port(
        &self,
        id: &SessionId,
        port: u16,
        outgoing: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Connected> {
        let client = self.client(id).await?;
        let arriving = client.connect_port(port, outgoing).await.map_err(from_daemon)?;
        let handle = self.handle(id).await?;
        Ok(Connected { arriving, link: handle.link(), _viewer: handle.watch() })
    }

    /// The same as a stream of bytes.
    pub(crate) async fn open_port(&self, id: &SessionId, port: u16) -> Result<PortIo> {
        let (outgoing, taken) = mpsc::channel(WAITING);
        let connected = self.connect_port(id, port, until_end(taken)).await?;
        let arriving = futures::stream::unfold(connected, async |mut connected| {
            let arrived = connected.next().await?;
            Some((arrived.map_err(io::Error::other), connected))
        });
        let arriving: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(arriving);
        Ok(PortIo { reading: StreamReader::new(arriving), writing: PollSender::new(outgoing) })
    }

    /// Whether anybody may see what a port of a session serves. Of a session that does not exist,
    /// nobody.
    pub(crate) async fn is_public_port(&self, id: &SessionId, port: u16) -> Result<bool> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        rclaude_store::port::is_public(&mut conn, id, port).await.map_err(from_store)
    }

    /// The ports of a session that anybody may see.
    pub(crate) async fn public_ports(&self, id: &SessionId) -> Result<Vec<u16>> {
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        rclaude_store::port::public(&mut conn, id).await.map_err(from_store)
    }

    /// Lets everybody see what a port of a session serves, or no more.
    pub(crate) async fn set_public_port(
        &self,
        id: &SessionId,
        port: u16,
        public: bool,
    ) -> Result<()> {
        let id = id.clone();
        let write =
            async move |tx: &mut _| rclaude_store::port::set_public(tx, &id, port, public).await;
        self.engine.store.write(write).await.map_err(from_store)
    }
}
