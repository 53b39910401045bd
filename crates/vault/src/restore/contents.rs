//! Contents: which blob of which pack goes where, and the writing of them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use rustic_core::{BlobId, DataId, Id, IndexedFull, Repository, repofile::BlobType};
use rustix::fs::{Mode, OFlags, ftruncate, openat};

use super::Place;
use crate::{Result, VaultError, session::Session};

/// How much of a pack is read at once, at most.
const WINDOW: u32 = 16 << 20;

/// How much that nobody needs is read between two blobs rather than asking twice.
const GAP: u32 = 256 << 10;

/// Zeros in runs of this length, where the file system has its blocks, are left as holes.
const BLOCK: usize = 4096;

/// Where each blob goes.
#[derive(Default)]
pub(super) struct Plan {
    files: Vec<(PathBuf, u64)>,
    /// By pack and offset there.
    blobs: BTreeMap<(Id, u32), Blob>,
}

struct Blob {
    id: DataId,
    length: u32,
    /// Files, and offsets there.
    targets: Vec<(usize, u64)>,
}

/// Blobs that are read at once.
struct Batch {
    pack: Id,
    offset: u32,
    end: u32,
    blobs: Vec<Blob>,
}

impl Plan {
    /// A file that is to be written.
    pub(super) fn file<S: IndexedFull>(
        &mut self,
        session: &Session,
        repository: &Repository<S>,
        path: &Path,
        size: u64,
        blobs: &[DataId],
    ) -> Result<()> {
        let (file, mut at) = (self.files.len(), 0);
        for id in blobs {
            let entry = repository.get_index_entry(id).map_err(|error| session.explain(&error))?;
            let key = (entry.pack.into_inner(), entry.location.offset);
            let length = entry.location.length;
            let blob = self.blobs.entry(key);
            let blob = blob.or_insert_with(|| Blob { id: *id, length, targets: Vec::new() });
            blob.targets.push((file, at));
            at += u64::from(entry.data_length());
        }
        if at != size {
            return Err(VaultError::damaged(format!(
                "{} has {at} bytes instead of {size}",
                path.display()
            )));
        }
        self.files.push((path.to_owned(), size));
        Ok(())
    }

    fn batches(blobs: BTreeMap<(Id, u32), Blob>) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        for ((pack, offset), blob) in blobs {
            let end = offset.saturating_add(blob.length);
            match batches.last_mut() {
                Some(batch)
                    if batch.pack == pack
                        && offset >= batch.end
                        && offset - batch.end <= GAP
                        && end - batch.offset <= WINDOW =>
                {
                    batch.end = end;
                    batch.blobs.push(blob);
                }
                _ => batches.push(Batch { pack, offset, end, blobs: vec![blob] }),
            }
        }
        batches
    }

    /// Makes all files and writes what is in them.
    pub(super) fn write<S: IndexedFull + Sync>(
        self,
        session: &Session,
        repository: &Repository<S>,
        place: &Place,
        threads: usize,
    ) -> Result<()> {
        let Self { files, blobs } = self;
        for (path, size) in &files {
            create(place, path, *size).map_err(VaultError::tree("create", path))?;
        }
        let batches = Mutex::new(Self::batches(blobs).into_iter());
        let failure = Mutex::new(None);
        let next = || {
            let failed = failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            let mut batches = batches.lock().unwrap_or_else(PoisonError::into_inner);
            if failed { None } else { batches.next() }
        };
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(batch) = next() {
                        if let Err(error) = write(session, repository, place, &files, batch) {
                            failure
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .get_or_insert(error);
                        }
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// A file of its size, all of it a hole.
fn create(place: &Place, path: &Path, size: u64) -> io::Result<()> {
    let spot = place.spot(path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(spot.dir(), spot.name(), flags, Mode::RUSR | Mode::WUSR)?;
    Ok(ftruncate(file, size)?)
}

fn write<S: IndexedFull>(
    session: &Session,
    repository: &Repository<S>,
    place: &Place,
    files: &[(PathBuf, u64)],
    batch: Batch,
) -> Result<()> {
    let Batch { pack, offset, end, blobs } = batch;
    session.pin(&pack, offset, end - offset)?;
    let result = blobs.iter().try_for_each(|blob| {
        let content = get(session, repository, &blob.id)?;
        blob.targets.iter().try_for_each(|(file, at)| {
            let (path, _) = &files[*file];
            put(place, path, *at, &content).map_err(VaultError::tree("write", path))
        })
    });
    session.unpin(&pack, offset);
    result
}

/// One blob's content, decrypted and authenticated.
fn get<S: IndexedFull>(
    session: &Session,
    repository: &Repository<S>,
    id: &DataId,
) -> Result<bytes::Bytes> {
    repository
        .get_blob_cached(&BlobId::from(*id), BlobType::Data)
        .map_err(|error| session.explain(&error))
}

/// Blobs one after the other.
pub(super) fn read<S: IndexedFull>(
    session: &Session,
    repository: &Repository<S>,
    blobs: &[DataId],
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    blobs.iter().try_for_each(|id| take(&get(session, repository, id)?))
}

/// Writes a piece of a file, but for the zeros in it.
fn put(place: &Place, path: &Path, at: u64, content: &[u8]) -> io::Result<()> {
    let spot = place.spot(path)?;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(spot.dir(), spot.name(), flags, Mode::empty())?);
    for (begin, end) in parts_with_content(at, content) {
        file.write_all_at(&content[begin..end], at + begin as u64)?;
    }
    Ok(())
}

/// The parts of a piece that are not all zeros, in steps of blocks of the file.
fn parts_with_content(at: u64, content: &[u8]) -> Vec<(usize, usize)> {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    let inside = usize::try_from(at % BLOCK as u64).unwrap_or_default();
    let mut begin = 0;
    let mut end = (BLOCK - inside).min(content.len());
    while begin < end {
        if content[begin..end].iter().any(|byte| *byte != 0) {
            match parts.last_mut() {
                Some(last) if last.1 == begin => last.1 = end,
                _ => parts.push((begin, end)),
            }
        }
        begin = end;
        end = (end + BLOCK).min(content.len());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, parts_with_content};

    #[test]
    fn runs_of_zeros_are_left_out_where_they_fill_blocks() {
        let mut content = vec![0; 5 * BLOCK];
        assert_eq!(parts_with_content(0, &content), []);
        content[2 * BLOCK] = 1;
        assert_eq!(parts_with_content(0, &content), [(2 * BLOCK, 3 * BLOCK)]);
        // A piece that begins in the middle of a block.
        assert_eq!(parts_with_content(96, &content), [(2 * BLOCK - 96, 3 * BLOCK - 96)]);
        content[4 * BLOCK..].fill(7);
        assert_eq!(
            parts_with_content(0, &content),
            [(2 * BLOCK, 3 * BLOCK), (4 * BLOCK, 5 * BLOCK)]
        );
        assert_eq!(parts_with_content(7, &[]), []);
    }
}
