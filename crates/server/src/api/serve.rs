//! The accept loop: HTTP/1.1 and HTTP/2 on one port, with bounds on what a client may hold, and
//! a stop that lets requests under way finish.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once: room for 5,000 idle followers and as many again.
const MAX_CONNECTIONS: usize = 10_000;
/// How long a client may take to send its first byte, and then a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a request's line and headers; the buffer they are read into may not grow beyond it. The
/// line alone may have half of it: the HTTP library takes no longer one.
const MAX_HEADERS: usize = 128 << 10;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 256;
/// How often a silent HTTP/2 client is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long requests under way may go on once the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `cancel` is cancelled, then stops accepting and returns; connections end on
/// `tracker` once their requests under way are answered, at the latest ten seconds later.
///
/// # Errors
/// None at present: what fails on accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    cancel: CancellationToken,
    tracker: &TaskTracker,
) -> io::Result<()> {
    let builder = Arc::new(builder());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = async {
            // With no slot free, clients wait in the kernel's backlog.
            let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
            let (stream, _) = listener.accept().await?;
            Ok::<_, io::Error>((stream, slot))
        };
        let accepted = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let connection =
                    connection(Arc::clone(&builder), stream, router.clone(), cancel.clone(), slot);
                tracker.spawn(connection);
            }
            Err(error) if of_the_client(&error) => {}
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept connections: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Errors of a connection that was gone before it was accepted.
fn of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADERS)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

async fn connection(
    builder: Arc<Builder<TokioExecutor>>,
    stream: TcpStream,
    router: Router,
    cancel: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    // Events and keystrokes are small writes that must not wait for each other.
    let _ = stream.set_nodelay(true);
    // The builder's own time limit starts with a request's first byte.
    let first_byte = tokio::select! {
        () = cancel.cancelled() => return,
        first_byte = timeout(HEADER_TIMEOUT, stream.readable()) => first_byte,
    };
    if !matches!(first_byte, Ok(Ok(()))) {
        return;
    }
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a client breaks off is its own affair, so the outcome is not looked at.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(GRACE, connection).await;
        }
    }
}
