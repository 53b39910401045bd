//! The door: HTTP/1.1 and HTTP/2 on one socket, every request with the token.

mod archives;
mod body;
pub(crate) mod input;
mod ports;
mod processes;
mod reading;
mod routes;
mod storage;
mod terminals;
mod watching;

use std::{convert::Infallible, rc::Rc, time::Duration};

pub(crate) use body::Body;
use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::UnixListener, task::spawn_local};

use crate::daemon::Daemon;

/// What a stream may send ahead of its being read: uploads at full speed, and little to hold for
/// a process that does not read its input.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all streams of a connection, far above any one, so that writers to processes that
/// do not read hold up nobody else.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// Requests at once on a connection.
const STREAMS: u32 = 1024;

/// The most that headers may take.
const HEADERS: u32 = 16 * 1024;

/// How long a connection may take to say what it wants (HTTP/1.1).
const PATIENCE: Duration = Duration::from_secs(30);

/// After a failure to accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for ever.
pub(crate) async fn serve(daemon: Rc<Daemon>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let daemon = Rc::clone(&daemon);
                spawn_local(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let daemon = Rc::clone(&daemon);
                        async move { Ok::<_, Infallible>(routes::answer(daemon, request).await) }
                    });
                    let mut builder = auto::Builder::new(Local);
                    builder
                        .http1()
                        .timer(TokioTimer::new())
                        .header_read_timeout(PATIENCE)
                        .max_buf_size(64 * 1024)
                        .http2()
                        .timer(TokioTimer::new())
                        .initial_stream_window_size(STREAM_WINDOW)
                        .initial_connection_window_size(CONNECTION_WINDOW)
                        .max_frame_size(64 * 1024)
                        .max_send_buf_size(128 * 1024)
                        .max_concurrent_streams(STREAMS)
                        .max_header_list_size(HEADERS);
                    // A connection that breaks is its peer's to notice.
                    let _broken = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Runs hyper's own tasks on this thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F> Executor<F> for Local
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
