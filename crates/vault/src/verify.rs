//! Verifying: whether all that is stored is what was stored, and what is lost if not.
//!
//! Every file of a vault but `config` and `vault.json` is called by the hash of its content, and
//! what refers to it is authenticated under the vault's key. So a file whose hash is its name is
//! sound, and nobody without the key can put another in its place.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustic_core::{
    BlobId, DataId, Id, IndexedFull, Repository, TreeId,
    repofile::{BlobType, IndexFile, SnapshotFile},
};
use sha2::{Digest as _, Sha256};

use crate::{
    Result, VaultError, hex,
    open::Inner,
    restore::top,
    save::index_files,
    session::Session,
    snapshot::{Shape, SnapshotId, retry_if_gone},
    store::Store,
};

/// How often it is begun anew because the vault was pruned meanwhile.
const ATTEMPTS: usize = 5;

/// How many lost entries of a snapshot are named.
const NAMED: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many snapshots and documents there are.
    pub snapshots: u64,
    /// How many packs there are that data is read from.
    pub packs: u64,
    /// How many bytes of packs were read.
    pub read_bytes: u64,
    /// The files of the vault that are missing or not what was stored.
    pub damaged: Vec<DamagedFile>,
    /// What cannot be restored because of that.
    pub lost: Vec<Lost>,
}

impl Verified {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_empty()
    }
}

/// A file of the vault that is not what was stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedFile {
    /// Its name inside the vault.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A snapshot that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The snapshot.
    pub id: SnapshotId,
    /// What it was saved under; empty if even that is lost.
    pub label: String,
    /// Files and directories in it that cannot be restored; the first hundred.
    pub entries: Vec<PathBuf>,
    /// How many there are. A directory that is lost counts as one.
    pub count: u64,
}

pub(crate) fn verify(inner: &Inner, read_data: bool) -> Result<Verified> {
    for _ in 0..ATTEMPTS {
        let index = index_files(inner)?;
        let verified = retry_if_gone(|| once(inner, read_data))?;
        // What is missing may be what a prune has deleted since the index was read.
        if verified.is_sound() || index_files(inner)? == index {
            return Ok(verified);
        }
    }
    Err(VaultError::Busy { location: inner.location.clone() })
}

fn once(inner: &Inner, read_data: bool) -> Result<Verified> {
    let (session, repository) = inner.session()?;
    let files = Files { inner, session: &session, verified: Mutex::default() };

    // Snapshots before the index, in which there is then all that they refer to.
    let mut snapshots = Vec::new();
    for (id, _) in files.list("snapshots")? {
        files.verified().snapshots += 1;
        let name = format!("snapshots/{}", &*id.to_hex());
        if !files.is_sound(&name, &id, None)? {
            let id = SnapshotId::of(&id);
            let lost = Lost { id, label: String::new(), entries: Vec::new(), count: 1 };
            files.verified().lost.push(lost);
            continue;
        }
        let mut snapshot: SnapshotFile =
            repository.get_file(&id.into()).map_err(|error| session.explain(&error))?;
        snapshot.id = id.into();
        snapshots.push(snapshot);
    }
    let mut packs = BTreeMap::new();
    for (id, _) in files.list("index")? {
        let name = format!("index/{}", &*id.to_hex());
        if !files.is_sound(&name, &id, None)? {
            session.hide(id);
            continue;
        }
        let index: IndexFile =
            repository.get_file(&id.into()).map_err(|error| session.explain(&error))?;
        let all = index.packs.iter().chain(&index.packs_to_delete);
        packs.extend(all.map(|pack| (pack.id.into_inner(), pack.pack_size())));
    }
    let unsound = files.packs(packs, read_data)?;
    let repository = inner.index(&session, repository)?;
    let mut search = Search {
        session: &session,
        repository: &repository,
        unsound,
        good: HashSet::new(),
        checked: HashMap::new(),
    };
    for snapshot in &snapshots {
        let lost = search.lost(snapshot)?;
        if lost.count > 0 {
            files.verified().lost.push(lost);
        }
    }
    let mut verified = files.verified.into_inner().unwrap_or_else(PoisonError::into_inner);
    verified.damaged.sort();
    Ok(verified)
}

/// The files themselves.
struct Files<'a> {
    inner: &'a Inner,
    session: &'a Arc<Session>,
    verified: Mutex<Verified>,
}

impl Files<'_> {
    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, folder: &str) -> Result<Vec<(Id, u64)>> {
        let storage = |error| self.session.storage("list", folder.to_owned(), error);
        let listed = self.inner.store.list(folder).map_err(storage)?;
        Ok(listed.into_iter().filter_map(|(name, size)| Some((name.parse().ok()?, size))).collect())
    }

    fn damaged(&self, path: &str, problem: impl Into<String>) {
        let (path, problem) = (path.to_owned(), problem.into());
        self.verified().damaged.push(DamagedFile { path, problem });
    }

    /// Whether a file's hash is its name. One that is gone since it was listed is an error.
    fn is_sound(&self, path: &str, id: &Id, size: Option<u32>) -> Result<bool> {
        let store: &dyn Store = &*self.inner.store;
        let bytes = store
            .read(path)
            .map_err(|error| self.session.storage("read", path.to_owned(), error))?;
        if size.is_some() {
            self.verified().read_bytes += bytes.len() as u64;
        }
        let sound = hex::encode(&Sha256::digest(&bytes)) == *id.to_hex();
        if !sound {
            self.damaged(path, "its content is not what was stored");
        }
        Ok(sound)
    }

    /// The packs of the index that are missing or not what was stored.
    fn packs(&self, packs: BTreeMap<Id, u32>, read_data: bool) -> Result<HashSet<Id>> {
        let mut there: HashMap<Id, u64> = self.list("data")?.into_iter().collect();
        self.verified().packs = packs.len() as u64;
        let unsound = Mutex::new(HashSet::new());
        let todo = Mutex::new(Vec::new());
        for (id, size) in packs {
            let path = crate::session::path(rustic_core::FileType::Pack, &id);
            let problem = match there.remove(&id) {
                None => "it is missing".to_owned(),
                Some(found) if found != u64::from(size) => {
                    format!("it has {found} bytes instead of {size}")
                }
                Some(_) => {
                    lock(&todo).push((id, path, size));
                    continue;
                }
            };
            self.damaged(&path, problem);
            lock(&unsound).insert(id);
        }
        if !read_data {
            return Ok(unsound.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        let failure = Mutex::new(None::<VaultError>);
        thread::scope(|scope| {
            for _ in 0..self.inner.store.parallel() {
                scope.spawn(|| {
                    while lock(&failure).is_none() {
                        let Some((id, path, size)) = lock(&todo).pop() else { break };
                        match self.is_sound(&path, &id, Some(size)) {
                            Ok(true) => {}
                            Ok(false) => _ = lock(&unsound).insert(id),
                            Err(error) => _ = lock(&failure).get_or_insert(error),
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(unsound.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What snapshots refer to.
struct Search<'a, S> {
    session: &'a Session,
    repository: &'a Repository<S>,
    unsound: HashSet<Id>,
    /// Directories that are whole, whichever snapshot they are in.
    good: HashSet<TreeId>,
    /// Blobs of packs that are not sound: whether they are readable nevertheless.
    checked: HashMap<DataId, bool>,
}

enum Step {
    Enter(PathBuf, Option<TreeId>),
    /// Leaving a directory, with how much was lost before it was entered.
    Leave(TreeId, u64),
}

impl<S: IndexedFull> Search<'_, S> {
    fn lost(&mut self, snapshot: &SnapshotFile) -> Result<Lost> {
        let id = SnapshotId::of(&snapshot.id);
        let label = snapshot.label.clone();
        let mut lost = Lost { id, label, entries: Vec::new(), count: 0 };
        let mut lose = |path: PathBuf| {
            lost.count += 1;
            if lost.entries.len() < NAMED {
                lost.entries.push(path);
            }
            lost.count
        };
        let mut count = 0;
        let node = match top(self.session, self.repository, snapshot) {
            Ok(node) if Shape::of(snapshot).is_some() => node,
            Ok(_) | Err(VaultError::Damaged { .. }) => {
                lose(PathBuf::new());
                return Ok(lost);
            }
            Err(error) => return Err(error),
        };
        if !self.has_all(node.content.as_deref())? {
            count = lose(PathBuf::new());
        }
        let mut todo = Vec::new();
        if node.is_dir() {
            todo.push(Step::Enter(PathBuf::new(), node.subtree));
        }
        while let Some(step) = todo.pop() {
            let (path, id) = match step {
                Step::Leave(id, before) => {
                    if count == before {
                        self.good.insert(id);
                    }
                    continue;
                }
                Step::Enter(path, Some(id)) => (path, id),
                Step::Enter(path, None) => {
                    count = lose(path);
                    continue;
                }
            };
            if self.good.contains(&id) {
                continue;
            }
            let Ok(tree) = self.repository.get_tree(&id) else {
                self.only_damage()?;
                count = lose(path);
                continue;
            };
            todo.push(Step::Leave(id, count));
            for node in tree.nodes {
                let path = path.join(node.name());
                if node.is_dir() {
                    todo.push(Step::Enter(path, node.subtree));
                } else if !self.has_all(node.content.as_deref())? {
                    count = lose(path);
                }
            }
        }
        Ok(lost)
    }

    fn has_all(&mut self, blobs: Option<&[DataId]>) -> Result<bool> {
        for blob in blobs.unwrap_or_default() {
            let Ok(entry) = self.repository.get_index_entry(blob) else { return Ok(false) };
            if !self.unsound.contains(&*entry.pack) {
                continue;
            }
            let known = self.checked.get(blob).copied();
            let readable = known.unwrap_or_else(|| {
                let id = BlobId::from(*blob);
                self.repository.get_blob_cached(&id, BlobType::Data).is_ok()
            });
            self.only_damage()?;
            self.checked.insert(*blob, readable);
            if !readable {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the storage said, unless it is that something is not there.
    fn only_damage(&self) -> Result<()> {
        match self.session.failure() {
            Some(VaultError::Storage { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Ok(())
            }
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}
