//! The door: open, read, write, close.

use std::{path::Path, sync::Arc};

use crate::{
    Reader, Result, Tx, carry,
    db::{self, Readers, Writer},
};

/// A database that is open. Cheap to clone; all clones are the same one.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Writer,
    readers: Readers,
}

impl Store {
    /// Opens the database in this file, making it or bringing its schema up to date as needed.
    /// The directory must be there. Several processes may have it open.
    ///
    /// Fails with [`NewerVersion`](crate::StoreError::NewerVersion) if a newer program wrote
    /// it, [`Corrupt`](crate::StoreError::Corrupt) if it is damaged or something else's, and
    /// [`Unavailable`](crate::StoreError::Unavailable) if the file cannot be used.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let conn = db::open(path).await?;
        Ok(Self(Arc::new(Inner { writer: Writer::start(conn)?, readers: Readers::new(path) })))
    }

    /// A connection to read by; waits while all are in use. Pass `&mut reader` where
    /// `&mut Conn` is wanted. Each call sees what was acknowledged before it.
    pub async fn read(&self) -> Result<Reader> {
        self.0.readers.take().await
    }

    /// Does the work in a transaction and answers once that is on the disk.
    ///
    /// An error from the work takes back what it wrote. The work should touch the database
    /// alone: while it waits for anything else, no other write goes on. A caller that stops
    /// waiting does not stop the work.
    ///
    /// Fails with [`DiskFull`](crate::StoreError::DiskFull) or
    /// [`Unavailable`](crate::StoreError::Unavailable) if the disk refuses; then nothing of it
    /// was kept, and the next write is tried afresh.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx) -> Result<T> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// Writes a consistent copy of the database, as it is at one moment, to a file that does not
    /// exist and that its owner alone can read. Writing goes on meanwhile.
    pub async fn copy_to(&self, path: &Path) -> Result<()> {
        let mut conn = self.read().await?;
        db::make_private(path)?;
        carry::copy(&mut conn, path).await
    }

    /// Ends writing after all that is queued, and reading at once. Later calls are refused.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
    }
}
