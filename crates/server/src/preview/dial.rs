//! Connections to programs in sessions, for the HTTP client.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use axum::http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rclaude_types::{ErrorCode, Problem, SessionId};
use tokio::{
    io::{self, AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::address::Target;
use crate::session::manager::{SessionManager, ports::PortIo};

/// Connections to one session at once: many tabs, and no flood.
const MOST: usize = 256;

/// Dials ports of sessions. A URI's host says which: `<port>.<session>`.
#[derive(Debug, Clone)]
pub(super) struct Dialler {
    sessions: SessionManager,
    slots: Arc<Mutex<HashMap<SessionId, Weak<Semaphore>>>>,
}

/// The host by which [`Dialler`] knows a port of a session.
pub(super) fn host(target: &Target) -> String {
    format!("{}.{}", target.port, target.session)
}

/// Why a port could not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.detail)]
pub(super) struct Undialled(pub(super) Problem);

impl Dialler {
    pub(super) fn new(sessions: SessionManager) -> Self {
        Self { sessions, slots: Arc::default() }
    }

    fn slot(&self, session: &SessionId) -> Result<OwnedSemaphorePermit, Problem> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = slots.get(session).and_then(Weak::upgrade).unwrap_or_else(|| {
            // Sessions come and go.
            slots.retain(|_, slots| slots.strong_count() > 0);
            let mine = Arc::new(Semaphore::new(MOST));
            slots.insert(session.clone(), Arc::downgrade(&mine));
            mine
        });
        drop(slots);
        mine.try_acquire_owned().map_err(|_| {
            let detail = format!("the session has {MOST} connections to its previews already");
            Problem::new(ErrorCode::SandboxUnavailable, detail)
        })
    }
}

impl tower_service::Service<Uri> for Dialler {
    type Response = TokioIo<Dialled>;
    type Error = Undialled;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Undialled>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Undialled>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let named = uri.host().and_then(|host| host.split_once('.'));
            let named = named.and_then(|(port, id)| Some((port.parse().ok()?, id.parse().ok()?)));
            let (port, session): (u16, SessionId) = named.expect("made from a target");
            let slot = this.slot(&session).map_err(Undialled)?;
            let io = this.sessions.open_port(&session, port).await.map_err(Undialled)?;
            Ok(TokioIo::new(Dialled { io, _slot: slot }))
        })
    }
}

/// A connection to a program in a session.
#[derive(Debug)]
pub(super) struct Dialled {
    io: PortIo,
    _slot: OwnedSemaphorePermit,
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
