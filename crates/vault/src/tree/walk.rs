//! A tree, entry by entry: each directory before what is in it, names in the order of their bytes.

use std::{
    ffi::{OsStr, OsString},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::Facts;
use crate::{Result, VaultError};

/// How directories are opened: never through a link.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file in a tree.
pub(crate) struct Entry {
    /// The directory it is in; for the root, the root itself.
    dir: Arc<OwnedFd>,
    /// Its name there; `.` for the root.
    name: OsString,
    /// Where it is below the root; empty for the root.
    pub(crate) path: PathBuf,
    pub(crate) facts: Facts,
}

impl Entry {
    /// Opens a regular file to be read.
    pub(crate) fn opener(&self) -> Opener {
        let (dir, name, path) = (Arc::clone(&self.dir), self.name.clone(), self.path.clone());
        Opener { dir, name, path, size: self.facts.size }
    }
}

/// What it takes to open a file later, in another thread.
pub(crate) struct Opener {
    dir: Arc<OwnedFd>,
    name: OsString,
    pub(crate) path: PathBuf,
    /// Its size when it was looked at.
    pub(crate) size: u64,
}

impl Opener {
    pub(crate) fn open(&self) -> Result<std::fs::File> {
        // Should something else be there by now, opening must not wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = openat(&*self.dir, &self.name, flags, Mode::empty())
            .map_err(|error| VaultError::tree("open", &self.path)(error.into()))?;
        let stat =
            fstat(&opened).map_err(|error| VaultError::tree("open", &self.path)(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(VaultError::Changed { path: self.path.clone() });
        }
        Ok(opened.into())
    }
}

/// Goes through a tree. Ends after the first error.
pub(crate) struct Walk {
    root: Option<Arc<OwnedFd>>,
    above: Vec<Level>,
}

struct Level {
    dir: Arc<OwnedFd>,
    path: PathBuf,
    /// In reverse.
    names: Vec<OsString>,
}

impl Walk {
    /// The tree whose root is at `root`, which may be a link to a directory.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let root = openat(CWD, root, flags, Mode::empty())
            .map_err(|error| VaultError::tree("open the directory", root)(error.into()))?;
        Ok(Self { root: Some(Arc::new(root)), above: Vec::new() })
    }

    fn enter(&mut self, dir: Arc<OwnedFd>, path: PathBuf) -> Result<()> {
        let mut names = Vec::new();
        let read = |error: rustix::io::Errno| VaultError::tree("list", &path)(error.into());
        for entry in Dir::read_from(&*dir).map_err(read)? {
            let name = OsString::from_vec(entry.map_err(read)?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.above.push(Level { dir, path, names });
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        if let Some(root) = self.root.take() {
            let stat =
                fstat(&*root).map_err(|error| VaultError::tree("look at", "")(error.into()))?;
            let entry = entry(Arc::clone(&root), OsString::from("."), PathBuf::new(), &stat)?;
            self.enter(root, PathBuf::new())?;
            return Ok(Some(entry));
        }
        while let Some(level) = self.above.last_mut() {
            let Some(name) = level.names.pop() else {
                self.above.pop();
                continue;
            };
            let (dir, path) = (Arc::clone(&level.dir), level.path.join(&name));
            let look = |error: rustix::io::Errno| VaultError::tree("look at", &path)(error.into());
            let stat = statat(&*dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(look)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let opened = openat(&*dir, &name, DIRECTORY, Mode::empty()).map_err(look)?;
                let stat = fstat(&opened).map_err(look)?;
                let opened = Arc::new(opened);
                let entry = entry(Arc::clone(&opened), OsString::from("."), path.clone(), &stat)?;
                self.enter(opened, path)?;
                return Ok(Some(entry));
            }
            return entry(dir, name, path, &stat).map(Some);
        }
        Ok(None)
    }
}

fn entry(dir: Arc<OwnedFd>, name: OsString, path: PathBuf, stat: &Stat) -> Result<Entry> {
    let facts = Facts::of(dir.as_fd(), &name, stat).map_err(VaultError::tree("look at", &path))?;
    Ok(Entry { dir, name, path, facts })
}

impl Iterator for Walk {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let next = self.step().transpose();
        if matches!(next, Some(Err(_))) {
            (self.root, self.above) = (None, Vec::new());
        }
        next
    }
}

/// The name an entry has in its directory, whatever it was looked at by.
pub(crate) fn last(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
