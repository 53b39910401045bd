//! A vault in a directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use super::Store;

/// What names of files that are not whole yet begin with.
const UNFINISHED: &str = ".tmp-";

pub(crate) struct Dir {
    root: PathBuf,
}

impl Dir {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A file that is written and on the disk, under a name of its own beside where it belongs.
    fn prepare(&self, path: &str, parts: &[Bytes]) -> io::Result<(NamedTempFile, PathBuf)> {
        let target = self.root.join(path);
        let folder = target.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.as_file().sync_all()?;
        Ok((file, target))
    }
}

impl Store for Dir {
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        for entry in entries(&self.root.join(folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(UNFINISHED) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_file() {
                match entry.metadata() {
                    Ok(metadata) => found.push((name, metadata.len())),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            } else if kind.is_dir() && !folder.is_empty() {
                found.extend(self.list(&format!("{folder}/{name}"))?);
            }
        }
        Ok(found)
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        fs::read(self.root.join(path)).map(Bytes::from)
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        File::open(self.root.join(path))?.read_exact_at(&mut buffer, offset)?;
        Ok(buffer.into())
    }

    fn write(&self, path: &str, parts: Vec<Bytes>) -> io::Result<()> {
        let (file, target) = self.prepare(path, &parts)?;
        file.persist(&target).map_err(|error| error.error)?;
        sync_folder(&target)
    }

    fn create(&self, path: &str, content: Bytes) -> io::Result<()> {
        let (file, target) = self.prepare(path, &[content])?;
        file.persist_noclobber(&target).map_err(|error| error.error)?;
        sync_folder(&target)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn size(&self) -> io::Result<u64> {
        fn sum(folder: &Path) -> io::Result<u64> {
            let mut total = 0;
            for entry in entries(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    total += sum(&entry.path())?;
                } else {
                    // What is gone since it was listed takes no room.
                    total += entry.metadata().map_or(0, |metadata| metadata.len());
                }
            }
            Ok(total)
        }
        sum(&self.root)
    }

    fn parallel(&self) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from).min(8)
    }

    /// The kernel lets go of the lock when this process dies.
    fn lock_for_pruning(&self) -> io::Result<Box<dyn Send>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.root.join("prune.lock"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn sweep(&self, older_than: Duration) -> io::Result<()> {
        fn visit(folder: &Path, older_than: Duration) -> io::Result<()> {
            for entry in entries(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    visit(&entry.path(), older_than)?;
                } else if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
                    if age > older_than {
                        fs::remove_file(entry.path())?;
                    }
                }
            }
            Ok(())
        }
        visit(&self.root, older_than)
    }
}

/// A folder's entries; none if there is no such folder.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// A folder only its owner looks into, and all above it that are missing, durably.
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    sync_folder(folder)
}

/// Makes a file's name durable.
fn sync_folder(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
