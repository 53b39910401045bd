//! The door: listening, and letting connections in and out.

use std::{
    borrow::Cow,
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rclaude_types::{SshDoor, SshKeyId};
use russh::{
    Disconnect, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, PrivateKey},
    mac,
    server::{Config, run_stream},
};
use rustix::net::{Shutdown, shutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::Connection,
    host_key::{door, host_key},
    keys::SshKeys,
};
use crate::session::manager::SessionManager;

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take to be let in.
const LETTING_IN: Duration = Duration::from_secs(20);
/// Keys that a client may offer in vain.
const ATTEMPTS: usize = 20;
/// How often a client that says nothing is asked whether it is there, and how often in vain: one
/// that was closed for a while, as a laptop is, comes back to its terminal.
const ASKED: Duration = Duration::from_mins(1);
const UNANSWERED: usize = 10;
/// Bytes that a client may send ahead of being read, on each channel.
const WINDOW: u32 = 2 * 1024 * 1024;
/// How long a client may take to leave when the server stops.
const LEAVING: Duration = Duration::from_secs(2);
/// How long accepting rests when the process has no file descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// What all connections share.
pub(super) struct Shared {
    pub(super) sessions: SessionManager,
    pub(super) keys: Arc<SshKeys>,
    pub(super) tasks: TaskTracker,
}

/// Where SSH clients come in.
#[derive(Debug)]
pub(crate) struct Door {
    listener: TcpListener,
    key: PrivateKey,
    address: SocketAddr,
    /// How it is told of.
    pub(crate) told: SshDoor,
}

impl Door {
    /// Opens the door at `address`; port 0 takes a free one. The server's key is in `data_dir`.
    pub(crate) async fn open(address: SocketAddr, data_dir: &Path) -> io::Result<Self> {
        let key = host_key(data_dir)?;
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let told = door(address, &key)?;
        Ok(Self { listener, key, address, told })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Lets clients in until `stop` is cancelled, then has them leave.
pub(crate) async fn serve(
    door: Door,
    sessions: SessionManager,
    keys: Arc<SshKeys>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let config = Arc::new(config(door.key));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shared = Arc::new(Shared { sessions, keys, tasks: tasks.clone() });
    while let Some(accepted) = stop.run_until_cancelled(door.listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an SSH connection cannot be accepted");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "an SSH connection too many was turned away");
            continue;
        };
        let (shared, config, stop) = (shared.clone(), config.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            if let Err(error) = attend(stream, peer, shared, config, stop).await {
                tracing::debug!(%peer, %error, "an SSH connection broke off");
            }
        });
    }
}

/// One connection, until it is over.
async fn attend(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    config: Arc<Config>,
    stop: CancellationToken,
) -> Result<(), russh::Error> {
    stream.set_nodelay(true)?;
    // Once more, to break it off whatever the library waits for.
    let socket = stream.as_fd().try_clone_to_owned()?;
    let mut removals = shared.keys.removals();
    let (opened, mut is_open) = watch::channel(None);
    let connection = Connection::new(shared, peer, opened);
    let deadline = tokio::time::Instant::now() + LETTING_IN;
    let begun = tokio::time::timeout_at(deadline, run_stream(config, stream, connection));
    let Some(Ok(begun)) = stop.run_until_cancelled(begun).await else { return Ok(()) };
    let mut running = begun?;
    let handle = running.handle();
    let let_in = async {
        let open = tokio::time::timeout_at(deadline, is_open.wait_for(Option::is_some)).await;
        open.ok()?.ok()?.clone()
    };
    let key: SshKeyId = tokio::select! {
        ended = &mut running => return ended,
        () = stop.cancelled() => { cut(&socket); return running.await }
        let_in = let_in => {
            let Some(key) = let_in else {
                tracing::warn!(%peer, "an SSH client was not let in in time");
                cut(&socket);
                return running.await;
            };
            key
        }
    };
    let removed = async {
        loop {
            match removals.recv().await {
                Ok(removed) if removed != key => {}
                // Too many at once to tell whether it was among them.
                _ => return,
            }
        }
    };
    let why = tokio::select! {
        ended = &mut running => return ended,
        () = stop.cancelled() => "the server is shutting down",
        () = removed => "the key was removed",
    };
    let told = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new());
    let leaving = async {
        let _ = told.await;
        (&mut running).await
    };
    if let Ok(ended) = tokio::time::timeout(LEAVING, leaving).await {
        return ended;
    }
    cut(&socket);
    running.await
}

/// Breaks a connection off.
fn cut(socket: &OwnedFd) {
    // Fails only where it is broken already.
    let _ = shutdown(socket, Shutdown::Both);
}

fn config(key: PrivateKey) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-rclaude")),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        // What is not guessable needs no slow refusals.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        window_size: WINDOW,
        // Nothing reads what the library would keep for us.
        channel_buffer_size: 1,
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
            key: Cow::Borrowed(KEYS),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::default()
        },
        max_auth_attempts: ATTEMPTS,
        inactivity_timeout: None,
        keepalive_interval: Some(ASKED),
        keepalive_max: UNANSWERED,
        nodelay: true,
        ..Config::default()
    }
}

/// What current clients agree on; nothing that is kept for the sake of old ones.
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
/// Of users' keys; the server's own is the first.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_128_CTR,
];
const MACS: &[mac::Name] =
    &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];
