//! Ports of a session, and connections to them.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use rclaude_types::{Page, Port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

use super::{
    Answer, Client,
    socket::{self, Broken, Socket},
};
use crate::exit::Failure;

/// Bytes of a frame: the server takes 1 MiB.
const PIECE: usize = 64 << 10;

impl Client {
    pub(crate) async fn ports(&self, session: &str) -> Result<Answer<Page<Port>>, Failure> {
        self.get(&["sessions", session, "ports"], &[]).await
    }

    /// Connects to a port of the session.
    pub(crate) async fn connect_port(&self, session: &str, port: u16) -> Result<Socket, Failure> {
        let number = port.to_string();
        let path = ["sessions", session, "ports", &number, "connect"];
        socket::open(self, self.resource(&path, &[])).await.map_err(|broken| match broken {
            Broken::ForGood(failure) => failure,
            Broken::ForNow(reason) => Failure::Unreachable { url: self.url().to_string(), reason },
        })
    }
}

/// Passes bytes between a connection here and one in a session until both sides have ended, or
/// one broke, which breaks the other. Neither direction waits for the other.
pub(crate) async fn relay(here: TcpStream, there: Socket) {
    // Somebody waits at either end.
    let _slower = here.set_nodelay(true);
    let (mut from_here, mut to_here) = here.into_split();
    let (mut to_there, mut from_there) = there.split();
    let up = async {
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            from_here.read_buf(&mut piece).await?;
            // An empty frame is the end of our side.
            let piece: Bytes = piece.freeze();
            let is_end = piece.is_empty();
            to_there.send(Message::Binary(piece)).await.map_err(io::Error::other)?;
            if is_end {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let down = async {
        loop {
            let message = from_there.next().await.ok_or(io::ErrorKind::ConnectionReset)?;
            match message.map_err(io::Error::other)? {
                Message::Binary(piece) if piece.is_empty() => to_here.shutdown().await?,
                Message::Binary(piece) => to_here.write_all(&piece).await?,
                Message::Close(Some(frame)) if frame.code == CloseCode::Normal => return Ok(()),
                Message::Close(_) => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            }
        }
    };
    // The server closes when both sides have ended, which ends `down`.
    let both = async { tokio::try_join!(up, down) };
    if both.await.is_err() {
        // What came was not all there is, and whoever reads here must see that.
        let _kept = to_here.as_ref().set_zero_linger();
    }
}
