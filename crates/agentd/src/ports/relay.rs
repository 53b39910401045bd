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
    sync::{mpsc, oneshot},
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

/// Connects a request to whatever listens on `port`. Once begun it is seen through, whether or not
/// somebody still waits for it: a connection that was merely dropped would be one that ended.
pub(crate) async fn connect(port: u16, arriving: Incoming) -> Result<Body> {
    let connecting = spawn_local(async move { Ok(relay(dial(port).await?, arriving)) });
    connecting.await.expect("nothing in it panics")
}

/// On either loopback address.
async fn dial(port: u16) -> Result<TcpStream> {
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
fn relay(stream: TcpStream, arriving: Incoming) -> Body {
    let (from, to) = stream.into_split();
    let (pieces, body) = mpsc::channel(WAITING);
    let (leave, left) = oneshot::channel();
    spawn_local(write(to, arriving, left));
    spawn_local(async move {
        if read(from, &pieces).await {
            // Nobody reads the answer any more: nobody sends, either.
            let _ended = leave.send(());
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

/// Writes what arrives, then ends that side; or breaks the connection, once whoever sends is gone:
/// the program must not take what came for all there is.
async fn write(mut to: OwnedWriteHalf, arriving: Incoming, left: oneshot::Receiver<()>) {
    let is_whole = tokio::select! {
        is_whole = pass(&mut to, arriving) => is_whole,
        Ok(()) = left => false,
    };
    if is_whole {
        let _gone = to.shutdown().await;
    } else {
        let _kept = to.as_ref().set_zero_linger();
        to.forget();
    }
}

/// Writes what arrives; says whether that was all.
async fn pass(to: &mut OwnedWriteHalf, mut arriving: Incoming) -> bool {
    while let Ok(next) = input::next(&mut arriving).await {
        let Some(data) = next else { return true };
        // What is broken on that side shows in what is read.
        if to.write_all(&data).await.is_err() {
            return false;
        }
    }
    false
}
