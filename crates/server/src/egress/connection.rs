//! One TCP connection of a sandbox's.

use std::{
    io::{self, Cursor},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    refusal,
    report::Protocol,
    server::{HEAD_TIMEOUT, SILENCE, Session},
    sniff::{Spoken, spoken},
    web,
};

/// The most that is read before it must be clear what is spoken. A TLS client's first message
/// fits one record of 16 KiB.
const FIRST_BYTES: usize = 17 << 10;

/// Where a connection was meant to go.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    address: SocketAddr,
    name: Option<String>,
}

impl Destination {
    /// An address, and the name it stands for.
    pub(super) fn new(address: SocketAddr, name: Option<String>) -> Self {
        Self { address, name }
    }

    /// The name, or else the address.
    pub(super) fn host(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.address.ip().to_canonical().to_string())
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Serves a connection, or refuses it.
pub(super) async fn serve(
    session: Arc<Session>,
    mut stream: TcpStream,
    to: Destination,
) -> io::Result<()> {
    let mut first = Vec::with_capacity(1024);
    let what = listen(&mut stream, &mut first).await?;
    let port = to.port();
    let refused =
        |host: Option<String>, how| session.refused(&host.unwrap_or_else(|| to.host()), port, how);
    let answer = match what {
        Spoken::Http => {
            let (read, write) = stream.into_split();
            let stream = tokio::io::join(Cursor::new(first).chain(read), write);
            web::serve(session, to, stream).await;
            return Ok(());
        }
        Spoken::Tls => {
            let name = timeout(SILENCE, server_name(&mut stream, &mut first)).await;
            refused(name.ok().flatten(), Protocol::Tls);
            refusal::TLS_ALERT.to_vec()
        }
        Spoken::Ssh => refusal::ssh(&refused(None, Protocol::Ssh)),
        Spoken::Git => refusal::git(&refused(refusal::git_host(&first), Protocol::Git)),
        Spoken::Other => refusal::line(port, &refused(None, Protocol::Tcp)),
    };
    say_and_close(stream, &answer).await
}

/// Reads until it is clear what is spoken. Who says nothing waits for a greeting of some protocol
/// of which we know only that it is not HTTP.
async fn listen(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<Spoken> {
    let reading = async {
        loop {
            let read = stream.read_buf(first).await?;
            match spoken(first) {
                Some(spoken) => return Ok(spoken),
                None if read == 0 || first.len() >= FIRST_BYTES => return Ok(Spoken::Other),
                None => {}
            }
        }
    };
    timeout(SILENCE, reading).await.unwrap_or(Ok(Spoken::Other))
}

/// The name in a TLS client's first message.
async fn server_name(stream: &mut TcpStream, first: &mut Vec<u8>) -> Option<String> {
    let mut fed = 0;
    let mut acceptor = Acceptor::default();
    loop {
        while fed < first.len() {
            fed += acceptor.read_tls(&mut &first[fed..]).ok().filter(|read| *read > 0)?;
        }
        // An error is for a client that speaks no TLS that we know; it gets the same alert.
        if let Some(accepted) = acceptor.accept().ok()? {
            return accepted.client_hello().server_name().map(str::to_owned);
        }
        if first.len() >= FIRST_BYTES || stream.read_buf(first).await.ok()? == 0 {
            return None;
        }
    }
}

/// Says it, and waits a moment for the client to have heard: closing a connection with unread
/// bytes resets it, and a reset overtakes the words.
async fn say_and_close(mut stream: TcpStream, words: &[u8]) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(2);
    timeout(HEAD_TIMEOUT, stream.write_all(words)).await??;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let drain = async {
        for _ in 0..64 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok(())
    };
    timeout(PATIENCE, drain).await.unwrap_or(Ok(()))
}
