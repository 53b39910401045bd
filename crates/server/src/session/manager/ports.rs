//! Ports of a session, through its daemon.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use rclaude_sandbox::agentd::{self, PortStream};
use rclaude_types::{Port, SessionId};
use tokio::sync::watch;

use super::{Result, SessionManager, problems::from_daemon};
use crate::session::live::Viewer;

/// A connection to a program in a session.
#[derive(Debug)]
pub(crate) struct Connected {
    arriving: PortStream,
    /// Closed to it when the session is set aside: what stands still sends no end.
    link: watch::Receiver<Option<agentd::Client>>,
    /// Keeps the session awake.
    _viewer: Viewer,
}

impl Connected {
    /// What the program sends next; `None` at the end of its side. An error where the connection
    /// broke, or the session was set aside.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, agentd::Error>> {
        tokio::select! {
            arrived = self.arriving.next() => arrived,
            _ = self.link.wait_for(|link| link.as_ref().is_none_or(agentd::Client::is_closed)) => {
                Some(Err(agentd::Error::Lost("the session was set aside".to_owned())))
            }
        }
    }
}

impl SessionManager {
    /// Ports on which programs in the session listen (waking it if it is paused), by number.
    pub async fn ports(&self, id: &SessionId) -> Result<Vec<Port>> {
        self.client(id).await?.ports().await.map_err(from_daemon)
    }

    /// Connects to a port (waking the session if it is paused). What `outgoing` gives is sent; its
    /// end ends that side, its error breaks the connection.
    pub(crate) async fn connect_port(
        &self,
        id: &SessionId,
        port: u16,
        outgoing: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Connected> {
        let client = self.client(id).await?;
        let arriving = client.connect_port(port, outgoing).await.map_err(from_daemon)?;
        let handle = self.handle(id).await?;
        Ok(Connected { arriving, link: handle.link(), _viewer: handle.watch() })
    }
}
