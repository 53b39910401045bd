//! One session's way out: its sockets, and what all its connections share.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use rclaude_sandbox::provider::OutboundSockets;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{self, Destination},
    dns,
    names::Names,
    refusal,
    report::{Protocol, Refusal, Told, printable},
};

/// Serves the gateway to one session. Bodies stream both ways.
pub type Gateway =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Hears what was refused, each place once. Must not block.
pub type OnRefused = Arc<dyn Fn(Refusal) + Send + Sync>;

/// Tells where an accepted connection was meant to go.
pub type OriginalDestination = Arc<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;

/// How long a client may say nothing before it is told that there is nothing here.
pub(super) const SILENCE: Duration = Duration::from_secs(3);

/// How long a request's head may take, and a kept-alive connection may be idle.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// The most connections of one session at a time; more wait in the backlog.
const CONNECTIONS: usize = 2048;

/// The longest DNS query that is read, in bytes (the usual EDNS limit).
const DATAGRAM: usize = 4096;

/// What a session's way out is made of.
pub struct Egress {
    /// Where the gateway's requests go.
    pub gateway: Gateway,
    /// Whom to tell of refusals.
    pub on_refused: OnRefused,
    /// How to learn where a connection was meant to go.
    pub original: OriginalDestination,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

/// What a session's connections share.
pub(super) struct Session {
    pub(super) gateway: Gateway,
    on_refused: OnRefused,
    names: Mutex<Names>,
    told: Mutex<Told>,
    pub(super) tracker: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl Egress {
    /// Serves a session's sockets in tasks of `tracker` until `cancel`; connections under way end
    /// with it.
    pub fn serve(
        self,
        sockets: OutboundSockets,
        tracker: &TaskTracker,
        cancel: &CancellationToken,
    ) {
        let session = Arc::new(Session {
            gateway: self.gateway,
            on_refused: self.on_refused,
            names: Mutex::default(),
            told: Mutex::default(),
            tracker: tracker.clone(),
            cancel: cancel.clone(),
        });
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        for listener in sockets.tcp {
            let (room, original) = (Arc::clone(&room), Arc::clone(&self.original));
            let accepting = accept(Arc::clone(&session), listener, room, original);
            tracker.spawn(cancel.clone().run_until_cancelled_owned(accepting));
        }
        for socket in sockets.dns {
            let answering = answer_names(Arc::clone(&session), socket);
            tracker.spawn(cancel.clone().run_until_cancelled_owned(answering));
        }
    }
}

impl Session {
    /// Notes a refusal and returns the sentence for whoever tried.
    pub(super) fn refused(&self, host: &str, port: u16, protocol: Protocol) -> String {
        let refusal = Refusal { host: printable(host), port, protocol };
        let sentence = refusal::sentence(&refusal.host, port);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_news(&refusal, Instant::now());
        drop(told);
        if is_news {
            (self.on_refused)(refusal);
        }
        sentence
    }

    fn with_names<T>(&self, with: impl FnOnce(&mut Names) -> T) -> T {
        with(&mut self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(
    session: Arc<Session>,
    listener: TcpListener,
    room: Arc<Semaphore>,
    original: OriginalDestination,
) {
    loop {
        // Closed by nobody.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "egress: cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let serving = {
            let (session, original) = (Arc::clone(&session), Arc::clone(&original));
            async move {
                if let Err(error) = serve(session, stream, &original).await {
                    tracing::debug!(%error, "egress: connection failed");
                }
                drop(permit);
            }
        };
        let cancel = session.cancel.clone();
        session.tracker.spawn(cancel.run_until_cancelled_owned(serving));
    }
}

async fn serve(
    session: Arc<Session>,
    stream: TcpStream,
    original: &OriginalDestination,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let address = original(&stream)?;
    let name = session.with_names(|names| names.name(address.ip()).map(str::to_owned));
    connection::serve(session, stream, Destination::new(address, name)).await
}

async fn answer_names(session: Arc<Session>, socket: UdpSocket) {
    let mut packet = vec![0; DATAGRAM];
    loop {
        let received = socket.recv_from(&mut packet).await;
        let Ok((len, from)) = received else {
            // A reply that nobody waited for comes back as an error here.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        if let Some(reply) = session.with_names(|names| dns::answer(&packet[..len], names)) {
            // Lost replies are asked for again.
            let _ = socket.send_to(&reply, from).await;
        }
    }
}
