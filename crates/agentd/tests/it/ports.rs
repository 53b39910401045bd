//! Ports: who listens, and connections that carry every byte and every end.

use std::{io, net::Ipv6Addr};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rclaude_sandbox::agentd::{Error, PortStream};
use rclaude_types::ErrorCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::Daemon;

/// A program that takes one connection.
async fn program() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

async fn accepted(listener: TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}

async fn all(stream: PortStream) -> Result<Vec<u8>, Error> {
    stream.try_fold(Vec::new(), async |all, piece| Ok([all, piece.to_vec()].concat())).await
}

fn pieces(bytes: &'static [u8]) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::iter([Ok(Bytes::from_static(bytes))])
}

#[tokio::test]
async fn who_listens_is_told_with_where_and_who() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (port, listener) = program().await;
    let ports = client.ports().await.unwrap();
    let found = ports.iter().find(|it| it.port == port).unwrap();
    assert_eq!(found.addresses, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(found.pid, std::process::id());
    assert!(!found.process.is_empty());
    drop(listener);
    let ports = client.ports().await.unwrap();
    assert!(ports.iter().all(|it| it.port != port), "{ports:?}");
}

#[tokio::test]
async fn each_side_ends_by_itself() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (port, listener) = program().await;
    let (stream, mut there) =
        tokio::join!(client.connect_port(port, pieces(b"question")), accepted(listener));
    let mut question = Vec::new();
    there.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question", "and the end of it, while the answer is still to come");
    there.write_all(b"answer").await.unwrap();
    drop(there);
    assert_eq!(all(stream.unwrap()).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_program_on_the_other_loopback_address_is_reached() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await else {
        return println!("CHECKED LESS: this host has no ::1");
    };
    let port = listener.local_addr().unwrap().port();
    let (stream, there) = tokio::join!(client.connect_port(port, pieces(b"")), accepted(listener));
    drop(there);
    assert_eq!(all(stream.unwrap()).await.unwrap(), b"");
}

#[tokio::test]
async fn where_nothing_listens_is_said() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (port, listener) = program().await;
    drop(listener);
    let refused = client.connect_port(port, pieces(b"")).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.code, ErrorCode::PortClosed);
    assert!(problem.detail.contains(&port.to_string()), "{problem:?}");
}

#[tokio::test]
async fn much_goes_both_ways_at_once_and_a_reader_who_waits_holds_up_nobody_else() {
    const BYTES: usize = 40 << 20;
    let daemon = Daemon::start();
    let client = daemon.client().await;
    // One that is sent much and never read.
    let (stalled_port, stalled) = program().await;
    let (_stalled_stream, mut flood) = tokio::join!(
        client.connect_port(stalled_port, futures::stream::pending()),
        accepted(stalled)
    );
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { while flood.write_all(&[7; 8192]).await.is_ok() {} });

    let (port, listener) = program().await;
    let outgoing = futures::stream::iter(
        (0..BYTES / 65_536)
            .map(|at| Ok(Bytes::from(vec![u8::try_from(at % 251).unwrap(); 65_536]))),
    );
    let (stream, there) = tokio::join!(client.connect_port(port, outgoing), accepted(listener));
    let (mut from, mut to) = there.into_split();
    let echo = async {
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let check = async {
        let (mut stream, mut at) = (stream.unwrap(), 0);
        while let Some(piece) = stream.next().await {
            for byte in piece.unwrap() {
                assert_eq!(usize::from(byte), at / 65_536 % 251, "at {at}");
                at += 1;
            }
        }
        assert_eq!(at, BYTES);
    };
    tokio::join!(echo, check);
}

#[tokio::test]
async fn what_breaks_on_one_side_breaks_on_the_other_and_is_no_end() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let (port, listener) = program().await;
    let broken = futures::stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ]);
    let (_stream, mut there) = tokio::join!(client.connect_port(port, broken), accepted(listener));
    let mut read = Vec::new();
    there.read_to_end(&mut read).await.unwrap_err();

    let (port, listener) = program().await;
    let pending = futures::stream::pending();
    let (stream, there) = tokio::join!(client.connect_port(port, pending), accepted(listener));
    there.set_zero_linger().unwrap();
    drop(there);
    all(stream.unwrap()).await.unwrap_err();
}
