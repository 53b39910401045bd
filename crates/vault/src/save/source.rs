//! A tree or a file, in the engine's terms, to be saved.
//!
//! The engine leaves out what it cannot read and goes on. A snapshot that lacks files is worse than
//! none, so the first thing that goes wrong is kept here, and what was handed over is counted.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use rustic_core::{
    ErrorKind, ReadSource, ReadSourceEntry, ReadSourceOpen, RusticError, RusticResult,
};

use crate::{
    Result, VaultError,
    snapshot::Shape,
    tree::{Facts, Kind, Opener, Walk, last, node::to_node},
};

/// What is to be saved.
pub(crate) struct Source {
    what: What,
    report: Arc<Report>,
}

enum What {
    Tree(PathBuf),
    File(PathBuf),
    Bytes(Bytes),
}

#[derive(Default)]
struct Report {
    failure: Mutex<Option<VaultError>>,
    files: AtomicU64,
    dirs: AtomicU64,
}

impl Report {
    fn fail(&self, error: VaultError) -> Box<RusticError> {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        RusticError::new(ErrorKind::InputOutput, text)
    }
}

impl Source {
    /// A directory and all in it.
    pub(crate) fn tree(path: &Path) -> Self {
        Self::new(What::Tree(path.to_owned()))
    }

    /// A file's content.
    pub(crate) fn file(path: &Path) -> Self {
        Self::new(What::File(path.to_owned()))
    }

    /// Bytes in memory.
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self::new(What::Bytes(bytes))
    }

    fn new(what: What) -> Self {
        Self { what, report: Arc::default() }
    }

    /// The first thing that went wrong.
    pub(crate) fn outcome(&self) -> Result<()> {
        let failure = self.report.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), Err)
    }

    /// How many files and directories were handed over.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.report.files.load(Relaxed), self.report.dirs.load(Relaxed))
    }
}

impl ReadSource for Source {
    type Open = Content;
    type Iter = Entries;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    fn entries(&self) -> Entries {
        let report = Arc::clone(&self.report);
        let inside = match &self.what {
            What::Tree(path) => match Walk::new(path) {
                Ok(walk) => Inside::Walk(walk),
                Err(error) => Inside::Nothing(Some(error)),
            },
            What::File(path) => Inside::One(Some(Place::File(path.clone()))),
            What::Bytes(bytes) => Inside::One(Some(Place::Bytes(bytes.clone()))),
        };
        Entries { inside, report }
    }
}

/// The entries of a source.
pub(crate) struct Entries {
    inside: Inside,
    report: Arc<Report>,
}

enum Inside {
    Walk(Walk),
    One(Option<Place>),
    Nothing(Option<VaultError>),
}

impl Entries {
    fn step(&mut self) -> Result<Option<ReadSourceEntry<Content>>> {
        let (path, facts, place) = match &mut self.inside {
            Inside::Nothing(error) => return error.take().map_or(Ok(None), Err),
            Inside::One(place) => {
                let Some(place) = place.take() else { return Ok(None) };
                let (shape, size) = match &place {
                    Place::Bytes(bytes) => (Shape::Document, bytes.len() as u64),
                    Place::File(path) => {
                        let found = path.metadata().map_err(VaultError::tree("look at", path))?;
                        (Shape::File, found.len())
                    }
                    Place::Entry(opener) => (Shape::File, opener.size),
                };
                (PathBuf::from(shape.name()), Facts::plain(size), Some(place))
            }
            Inside::Walk(walk) => {
                let Some(entry) = walk.next().transpose()? else { return Ok(None) };
                let path = Path::new(Shape::Tree.name()).join(&entry.path);
                let place = (entry.facts.kind == Kind::File).then(|| Place::Entry(entry.opener()));
                (path, entry.facts, place)
            }
        };
        let is_dir = facts.kind == Kind::Dir;
        let count = if is_dir { &self.report.dirs } else { &self.report.files };
        count.fetch_add(1, Relaxed);
        let node = to_node(last(&path), &facts)?;
        let size = facts.size;
        let open = place.map(|place| Content { place, size, report: Arc::clone(&self.report) });
        Ok(Some(ReadSourceEntry { path, node, open }))
    }
}

impl Iterator for Entries {
    type Item = RusticResult<ReadSourceEntry<Content>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(entry) => entry.map(Ok),
            Err(error) => {
                self.report.fail(error);
                self.inside = Inside::Nothing(None);
                None
            }
        }
    }
}

/// A file's content, not opened yet.
pub(crate) struct Content {
    place: Place,
    size: u64,
    report: Arc<Report>,
}

/// Where it is to be had.
enum Place {
    Entry(Opener),
    File(PathBuf),
    Bytes(Bytes),
}

impl ReadSourceOpen for Content {
    type Reader = Reading;

    fn open(self) -> RusticResult<Reading> {
        let Self { place, size, report } = self;
        let opened: Result<(Box<dyn Read + Send>, PathBuf)> = match place {
            Place::Entry(opener) => {
                opener.open().map(|file| (Box::new(file) as _, opener.path.clone()))
            }
            Place::File(path) => File::open(&path)
                .map_err(VaultError::tree("open", &path))
                .map(|file| (Box::new(file) as _, path)),
            Place::Bytes(bytes) => Ok((Box::new(Cursor::new(bytes)), PathBuf::new())),
        };
        let (from, path) = opened.map_err(|error| report.fail(error))?;
        Ok(Reading { from, path, left: size, report })
    }
}

/// Reads just as much as there was when the file was looked at.
pub(crate) struct Reading {
    from: Box<dyn Read + Send>,
    path: PathBuf,
    left: u64,
    report: Arc<Report>,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let path = || self.path.clone();
        let read = match self.from.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let kind = error.kind();
                self.report.fail(VaultError::tree("read", path())(error));
                return Err(kind.into());
            }
        };
        match self.left.checked_sub(read as u64) {
            Some(left) if read > 0 || left == 0 => self.left = left,
            _ => {
                self.report.fail(VaultError::Changed { path: path() });
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(read)
    }
}
