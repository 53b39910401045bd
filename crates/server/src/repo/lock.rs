//! Locks between tasks and between servers that share a data directory: `flock` on a small file
//! beside what it guards. The kernel lets go of it when its holder dies, however it dies.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    time::Duration,
};

use super::RepoError;

/// Held until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "dropping it is what releases the lock")] File);

/// Waits for the lock at `path`. Polls, because a blocked `flock` would hold a thread for as long
/// as somebody else's clone takes and could not be cancelled.
pub(super) async fn lock(path: &Path) -> Result<Lock, RepoError> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(lock) = try_lock(path)? {
            return Ok(lock);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Takes the lock if nobody has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, RepoError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(RepoError::at("opening the lock", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(RepoError::at("taking the lock", path)(error)),
    }
}
