//! Where a vault's files are: a flat set of immutable files under names such as `index/<hex>`.
//!
//! What a store promises: a file appears whole or not at all, is durable once `write` returned,
//! and is never changed after. The vault's safety rests on these three.

mod dir;
mod s3;

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::{Location, Result};

pub(crate) use dir::Dir;

/// Files by name. Synchronous: called from threads that may block.
pub(crate) trait Store: Send + Sync + 'static {
    /// The names in a folder and their sizes; an absent folder is an empty one. Names of files
    /// that are not whole yet are left out.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;

    /// All of a file.
    fn read(&self, path: &str) -> io::Result<Bytes>;

    /// Exactly `length` bytes from `offset`; `UnexpectedEof` if there are fewer.
    fn read_range(&self, path: &str, offset: u64, length: usize) -> io::Result<Bytes>;

    /// Writes a file whole and durably, in place of one that is there.
    fn write(&self, path: &str, parts: Vec<Bytes>) -> io::Result<()>;

    /// Like `write`, but `AlreadyExists` if there is one.
    fn create(&self, path: &str, content: Bytes) -> io::Result<()>;

    /// Removes a file; one that is not there is removed already.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// How many bytes all files take.
    fn size(&self) -> io::Result<u64>;

    /// How many requests are worth having under way at once.
    fn parallel(&self) -> usize;

    /// Keeps others from pruning while the answer is held; `WouldBlock` if somebody does.
    fn lock_for_pruning(&self) -> io::Result<Box<dyn Send>>;

    /// Removes what writers that died left behind.
    fn sweep(&self, older_than: std::time::Duration) -> io::Result<()>;
}

/// The store at a location. Nothing is read or written yet.
pub(crate) fn at(location: &Location) -> Result<Arc<dyn Store>> {
    Ok(match location {
        Location::Dir(path) => Arc::new(Dir::new(path.clone())),
        Location::S3(place) => Arc::new(s3::S3Store::new(place)?),
    })
}
