//! How much room a tree takes.

use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rclaude_types::SandboxId;

use rustix::{
    fs::{AtFlags, FileType, statat},
    io::Errno,
};

use super::{
    ladder::{Ladder, open_directory},
    walk::names,
};

/// What snapshots hold. Taking one takes milliseconds at any size and counting takes as long as
/// there are files, so all but a sandbox's first are told the size of a little while ago.
#[derive(Debug, Default)]
pub(super) struct Sizes(Arc<Mutex<HashMap<SandboxId, (u64, Instant)>>>);

/// How old a size may be before it is counted anew.
const FRESH: Duration = Duration::from_mins(1);

impl Sizes {
    /// The size of the sandbox's disk, a snapshot of which is at `tree`.
    pub(super) fn of(&self, id: &SandboxId, tree: OwnedFd) -> io::Result<u64> {
        let known = lock(&self.0).get(id).copied();
        let Some((bytes, counted)) = known else {
            let bytes = bytes_under(tree)?;
            lock(&self.0).insert(id.clone(), (bytes, Instant::now()));
            return Ok(bytes);
        };
        if counted.elapsed() > FRESH {
            let (sizes, id) = (Arc::clone(&self.0), id.clone());
            std::thread::spawn(move || {
                // The layer may be removed meanwhile; then the next one is counted.
                if let Ok(bytes) = bytes_under(tree) {
                    lock(&sizes).insert(id, (bytes, Instant::now()));
                }
            });
        }
        Ok(bytes)
    }

    pub(super) fn forget(&self, id: &SandboxId) {
        lock(&self.0).remove(id);
    }
}

fn lock<T>(sizes: &Mutex<T>) -> MutexGuard<'_, T> {
    sizes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes on disk of what is under `top`, each file counted once. What comes and goes meanwhile
/// may or may not be counted.
pub(super) fn bytes_under(top: OwnedFd) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let mut buffer = Vec::with_capacity(1 << 15);
    let mut seen = HashSet::new();
    let mut ladder = Ladder::default();
    let mut waiting: Vec<Vec<CString>> = vec![names(&top, &mut buffer)?];
    ladder.push(top)?;
    let mut blocks = 0;
    while let Some(left) = waiting.last_mut() {
        let Some(name) = left.pop() else {
            waiting.pop();
            ladder.pop()?;
            continue;
        };
        let stat = match statat(ladder.here(), &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT | Errno::ACCESS) => continue,
            other => other?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_dir || stat.st_nlink < 2 || seen.insert(stat.st_ino) {
            blocks += stat.st_blocks.cast_unsigned();
        }
        if is_dir && let Ok(directory) = open_directory(ladder.here(), &name) {
            waiting.push(names(&directory, &mut buffer)?);
            ladder.push(directory)?;
        }
    }
    Ok(blocks * BLOCK)
}
