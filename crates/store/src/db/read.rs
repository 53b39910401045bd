//! Connections that only read: opened when first needed, kept, handed out one task at a time.
//!
//! Own and small rather than a general pool, because a connection to a file beside us needs no
//! health checks, no time limits and no task to bring it back.

use std::{
    fmt,
    num::NonZero,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{conn::Conn, sqlite};
use crate::error::{Result, StoreError};

/// The connections that are not in use, and how many there may be.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Conn>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// As many as there are cores, and at least four.
    pub(crate) fn new(path: &Path) -> Self {
        let most = std::thread::available_parallelism().map_or(4, NonZero::get).max(4);
        Self {
            path: path.to_owned(),
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(most)),
        }
    }

    /// A connection, once one is free.
    pub(crate) async fn take(&self) -> Result<Reader> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StoreError::Unavailable("it was closed".to_owned()))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => sqlite::open_reader(&self.path).await?,
        };
        Ok(Reader { conn: Some(conn), idle: Arc::clone(&self.idle), permit })
    }

    /// Lets nobody begin to read any more, and closes the connections at rest.
    pub(crate) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for conn in idle {
            if let Err(error) = conn.close().await {
                tracing::debug!(%error, "a reading connection did not close cleanly");
            }
        }
    }
}

/// A connection on loan. Give `&mut reader` where `&mut Conn` is wanted.
pub struct Reader {
    conn: Option<Conn>,
    idle: Arc<Mutex<Vec<Conn>>>,
    permit: OwnedSemaphorePermit,
}

impl Deref for Reader {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("only `drop` takes it")
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("only `drop` takes it")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // One that met trouble is not lent again: the next reader opens a fresh one.
        if let Some(conn) = self.conn.take()
            && conn.lost().is_none()
            && !self.permit.semaphore().is_closed()
        {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
