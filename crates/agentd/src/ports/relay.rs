//! A connection to a port, as the two bodies of one request.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use hyper::body::Incoming;
use rclaude_types::ErrorCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::spawn_local,
};

use crate::{
    http::{Body, input},
    refusal::{Refusal, Result},
};

/// Bytes read at a time.
const PIECE: usize = 32 * 1024;
/// Pieces that may wait for the other side: what a reader who stalls costs.
const WAITING: usize = 2;
/// For a program on this very machine to be reached: longer when it is too busy to accept.
const WITHIN: Duration = Duration::from_secs(10);

/// Connects to whatever listens on `port`, on either loopback address.
pub(crate) async fn connect(port: u16) -> Result<TcpStream> {
    let mut why = None;
    for address in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let address = SocketAddr::new(address, port);
        match tokio::time::timeout(WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Somebody waits at the other end.
                let _slower = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => why = Some(error.to_string()),
            Err(_) => why = Some("it does not accept".to_owned()),
        }
    }
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let detail = format!("nothing in the session takes connections on port {port}{why}");
    Err(Refusal::new(ErrorCode::PortClosed, detail))
}

/// Passes bytes both ways until both sides have ended, or one is gone: the body that arrives goes
/// to the program, what the program sends is the body of the answer. Each direction ends by
/// itself, as TCP's do.
pub(crate) fn relay(stream: TcpStream, arriving: Incoming) -> Body {
    let (from, to) = stream.into_split();
    let (pieces, body) = mpsc::channel(WAITING);
    let writing = spawn_local(write(to, arriving));
    spawn_local(async move {
        let gone = read(from, &pieces).await;
        if gone {
            // Nobody reads the answer any more: nobody sends, either.
            writing.abort();
        }
    });
    Body::Pieces(body)
}

/// Reads until the program ends its side (false) or nobody listens (true).
async fn read(mut from: OwnedReadHalf, to: &mpsc::Sender<io::Result<bytes::Bytes>>) -> bool {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = tokio::select! {
            read = from.read_buf(&mut piece) => read,
            () = to.closed() => return true,
        };
        let sent = match read {
            Ok(0) => return false,
            Ok(_) => to.send(Ok(piece.freeze())).await,
            // A body that ends in an error is cut off, as the connection was.
            Err(error) => return to.send(Err(error)).await.is_err(),
        };
        if sent.is_err() {
            return true;
        }
    }
}

/// Writes what arrives, then ends that side. A connection that breaks shows in what is read.
async fn write(mut to: OwnedWriteHalf, mut arriving: Incoming) {
    loop {
        match input::next(&mut arriving).await {
            Ok(Some(data)) => {
                if to.write_all(&data).await.is_err() {
                    return;
                }
            }
            Ok(None) => break,
            // Cut off, and not ended: the program must not take what came for all there is.
            Err(_) => return reset(to),
        }
    }
    let _gone = to.shutdown().await;
}

/// Breaks the connection, so that the program sees an error rather than an end.
fn reset(to: OwnedWriteHalf) {
    let _kept = to.as_ref().set_zero_linger();
    to.forget();
}
