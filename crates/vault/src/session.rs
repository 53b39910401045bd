//! One operation's view of a vault's files, in the terms of `rustic_core`.
//!
//! The engine below logs some failures and goes on: a pack that could not be written becomes a
//! file left out of the snapshot. So everything between it and the storage goes through here,
//! where the first failure is kept, and where a new snapshot is held back until the whole
//! operation is known to have gone well: writing it is the commit, and it is ours to do.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend,
};

use crate::{Result, VaultError, store::Store};

/// A part of a pack, in memory while its blobs are taken out of it.
#[derive(Clone)]
struct Window {
    offset: u32,
    bytes: Bytes,
}

pub(crate) struct Session {
    store: Arc<dyn Store>,
    location: String,
    /// The configuration of an open vault, which never changes.
    config: Option<Bytes>,
    /// The only key file to be seen, while keys are tried one by one.
    only_key: Option<Id>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failure: Option<VaultError>,
    snapshots: Vec<(Id, Bytes)>,
    windows: HashMap<Id, Vec<Window>>,
    written: Vec<String>,
    hidden: HashSet<Id>,
    /// Index files that were read, while they are kept, and those that are nowhere else.
    index: Option<HashMap<Id, Bytes>>,
    shown: Vec<(Id, u32)>,
    /// The snapshots there were.
    listed: Option<Vec<(Id, u32)>>,
}

/// A view that the engine can hold.
pub(crate) struct View(pub(crate) Arc<Session>);

impl Session {
    pub(crate) fn new(store: Arc<dyn Store>, location: String, config: Option<Bytes>) -> Arc<Self> {
        Arc::new(Self { store, location, config, only_key: None, state: Mutex::default() })
    }

    /// A view in which there is one key file.
    pub(crate) fn with_key(store: Arc<dyn Store>, location: String, key: Id) -> Arc<Self> {
        let only_key = Some(key);
        Arc::new(Self { store, location, config: None, only_key, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first failure, if there was one.
    pub(crate) fn failure(&self) -> Option<VaultError> {
        self.state().failure.take()
    }

    /// Keeps a failure, unless there was one before.
    pub(crate) fn fail(&self, error: VaultError) {
        self.state().failure.get_or_insert(error);
    }

    /// What an error of the engine means: what failed below it, if something did.
    pub(crate) fn explain(&self, error: &RusticError) -> VaultError {
        self.outcome().err().unwrap_or_else(|| VaultError::damaged(describe(error)))
    }

    /// What failed, if something did. Packs are not listed before they are read: one that is not
    /// there is missing.
    pub(crate) fn outcome(&self) -> Result<()> {
        match self.failure() {
            Some(VaultError::Storage { source, path, .. })
                if source.kind() == io::ErrorKind::NotFound && path.starts_with("data/") =>
            {
                Err(VaultError::damaged(format!("{path} is missing")))
            }
            Some(VaultError::Storage { source, path, .. })
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Err(VaultError::damaged(format!("{path} is too short")))
            }
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Makes the snapshots that were held back real.
    pub(crate) fn commit(&self) -> Result<()> {
        let held = std::mem::take(&mut self.state().snapshots);
        for (id, bytes) in held {
            let path = path(FileType::Snapshot, &id);
            self.store
                .write(&path, vec![bytes])
                .map_err(|error| self.storage("write", path, error))?;
        }
        Ok(())
    }

    /// Leaves a file out of lists from now on.
    pub(crate) fn hide(&self, id: Id) {
        self.state().hidden.insert(id);
    }

    /// Lists the snapshots, and lists no others from now on. Whoever reads the index after this
    /// finds there all that they refer to.
    pub(crate) fn settle_snapshots(self: &Arc<Self>) -> Result<()> {
        let listed = View(Arc::clone(self))
            .list_with_size(FileType::Snapshot)
            .map_err(|error| self.explain(&error))?;
        self.state().listed = Some(listed);
        Ok(())
    }

    /// Keeps index files in memory from now on: they are read twice.
    pub(crate) fn keep_index(&self) {
        self.state().index = Some(HashMap::new());
    }

    /// Shows an index file that is nowhere but here.
    pub(crate) fn show_index(&self, sealed: Vec<u8>) {
        let id = Id::random();
        let mut state = self.state();
        state.shown.push((id, u32::try_from(sealed.len()).unwrap_or(u32::MAX)));
        state.index.get_or_insert_default().insert(id, sealed.into());
    }

    /// Lets go of all of them.
    pub(crate) fn drop_index(&self) {
        let mut state = self.state();
        state.index = None;
        state.shown = Vec::new();
    }

    /// The files written through this view, by their names.
    pub(crate) fn written(&self) -> Vec<String> {
        std::mem::take(&mut self.state().written)
    }

    /// Holds a part of a pack in memory, so that its blobs are read with one request.
    pub(crate) fn pin(&self, pack: &Id, offset: u32, length: u32) -> Result<()> {
        let bytes = self
            .read_part(FileType::Pack, pack, offset, length)
            .map_err(|error| self.explain(&error))?;
        self.state().windows.entry(*pack).or_default().push(Window { offset, bytes });
        Ok(())
    }

    /// Lets go of it.
    pub(crate) fn unpin(&self, pack: &Id, offset: u32) {
        let mut state = self.state();
        if let Some(windows) = state.windows.get_mut(pack) {
            windows.retain(|window| window.offset != offset);
            if windows.is_empty() {
                state.windows.remove(pack);
            }
        }
    }

    fn pinned(&self, pack: &Id, offset: u32, length: u32) -> Option<Bytes> {
        let state = self.state();
        state.windows.get(pack)?.iter().find_map(|window| {
            let begin = usize::try_from(offset.checked_sub(window.offset)?).ok()?;
            let end = begin.checked_add(length as usize)?;
            (end <= window.bytes.len()).then(|| window.bytes.slice(begin..end))
        })
    }

    fn read_part(&self, tpe: FileType, id: &Id, offset: u32, length: u32) -> RusticResult<Bytes> {
        let path = path(tpe, id);
        self.store
            .read_range(&path, offset.into(), length as usize)
            .map_err(|error| self.note("read", path, error))
    }

    /// Creates a file. Finding it there with the very same content means that an earlier try did
    /// it, whose answer was lost on the way.
    fn create(&self, path: &str, content: Bytes) -> io::Result<()> {
        match self.store.create(path, content.clone()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.store.read(path)? == content { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    pub(crate) fn storage(
        &self,
        doing: &'static str,
        path: String,
        source: io::Error,
    ) -> VaultError {
        VaultError::Storage { doing, path, location: self.location.clone(), source }
    }

    /// Keeps a failure of the storage, and makes an error of it that the engine understands.
    fn note(&self, doing: &'static str, path: String, source: io::Error) -> Box<RusticError> {
        let error = self.storage(doing, path, source);
        let text = error.to_string();
        self.fail(error);
        RusticError::new(ErrorKind::Backend, text)
    }
}

impl ReadBackend for View {
    fn location(&self) -> String {
        self.0.location.clone()
    }

    fn list_with_size(&self, tpe: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let this = &self.0;
        if tpe == FileType::Config {
            let size = match &this.config {
                Some(config) => Some(config.len()),
                None => match this.store.read("config") {
                    Ok(config) => Some(config.len()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(error) => return Err(this.note("read", "config".to_owned(), error)),
                },
            };
            let entry = |size| (Id::default(), u32::try_from(size).unwrap_or(u32::MAX));
            return Ok(size.map(entry).into_iter().collect());
        }
        if tpe == FileType::Snapshot
            && let Some(listed) = &this.state().listed
        {
            return Ok(listed.clone());
        }
        let listed = this
            .store
            .list(tpe.dirname())
            .map_err(|error| this.note("list", tpe.dirname().to_owned(), error))?;
        let known = listed.into_iter().filter_map(|(name, size)| {
            Some((name.parse().ok()?, u32::try_from(size).unwrap_or(u32::MAX)))
        });
        let (hidden, shown) = {
            let state = this.state();
            (state.hidden.clone(), state.shown.clone())
        };
        let shown = shown.into_iter().filter(|_| tpe == FileType::Index);
        Ok(known
            .chain(shown)
            .filter(|(id, _)| !hidden.contains(id))
            .filter(|(id, _)| tpe != FileType::Key || this.only_key.is_none_or(|key| key == *id))
            .collect())
    }

    fn read_full(&self, tpe: FileType, id: &Id) -> RusticResult<Bytes> {
        if tpe == FileType::Config
            && let Some(config) = &self.0.config
        {
            return Ok(config.clone());
        }
        if tpe == FileType::Index
            && let Some(kept) = self.0.state().index.as_ref().and_then(|index| index.get(id))
        {
            return Ok(kept.clone());
        }
        let path = path(tpe, id);
        let bytes = self.0.store.read(&path).map_err(|error| self.0.note("read", path, error))?;
        if tpe == FileType::Index
            && let Some(index) = &mut self.0.state().index
        {
            index.insert(*id, bytes.clone());
        }
        Ok(bytes)
    }

    fn read_partial(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        match self.0.pinned(id, offset, length) {
            Some(bytes) => Ok(bytes),
            None => self.0.read_part(tpe, id, offset, length),
        }
    }

    fn warmup_path(&self, tpe: FileType, id: &Id) -> String {
        path(tpe, id)
    }
}

impl WriteBackend for View {
    fn write_bytes(
        &self,
        tpe: FileType,
        id: &Id,
        _cacheable: bool,
        content: BytesList,
    ) -> RusticResult<()> {
        let this = &self.0;
        let parts = content.into_vec();
        if tpe == FileType::Snapshot {
            this.state().snapshots.push((*id, join(parts)));
            return Ok(());
        }
        let path = path(tpe, id);
        let written = match tpe {
            FileType::Config => this.create(&path, join(parts)),
            _ => this.store.write(&path, parts),
        };
        written.map_err(|error| this.note("write", path.clone(), error))?;
        this.state().written.push(path);
        Ok(())
    }

    fn remove(&self, tpe: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        let path = path(tpe, id);
        self.0.store.remove(&path).map_err(|error| self.0.note("remove", path, error))
    }
}

fn join(parts: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(parts) => parts.concat().into(),
    }
}

/// Where a file is: restic's layout.
pub(crate) fn path(tpe: FileType, id: &Id) -> String {
    let hex = id.to_hex();
    match tpe {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{}", &hex[..2], &*hex),
        other => format!("{}/{}", other.dirname(), &*hex),
    }
}

/// An error of the engine in one line.
pub(crate) fn describe(error: &RusticError) -> String {
    let text = error.display_log();
    text.strip_prefix("Error: ").unwrap_or(&text).replace('\n', " ")
}
