//! Opening a vault, and making one.
//!
//! Making one ends with the creation of the file `config`, which at most one of several makers
//! succeeds in: until then there is no vault, after that there is one. Key files without a
//! `config`, which a maker that was killed leaves behind, do no harm: each key file is tried by
//! itself, and one that opens nothing is passed over.
//!
//! Beside it lies `vault.json`, in the clear: the format, so that a newer vault is told apart
//! without its key, and the hash of `config`, so that a damaged vault is told apart from a wrong
//! key. It is written after `config` and again if it is missing.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rustic_core::{
    ConfigOptions, Credentials, Id, IndexedFullStatus, KeyOptions, OpenStatus, Repository,
    RepositoryBackends, RepositoryOptions, RusticError,
    repofile::{IndexFile, MasterKey, SnapshotFile, SnapshotId},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Key, Location, Result, VaultError, hex,
    key::{derive, seal},
    session::{Session, View, describe},
    snapshot::retry_if_gone,
    store::{self, Store},
};

/// The newest format this program reads and the one it writes.
const FORMAT: u32 = 1;

/// The engine's own format behind ours.
const ENGINE_FORMAT: u32 = 2;

/// Packs of this size are large enough for a network and small enough that one for each thread is
/// in memory.
const PACK_SIZE: u64 = 16 << 20;

const HEADER: &str = "vault.json";

/// What may lie in a directory in which a vault is to be made: what a maker that was killed left.
const OURS: [&str; 7] = ["config", "data", "index", "keys", "snapshots", HEADER, "prune.lock"];

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    #[serde(default)]
    config: String,
}

/// An open vault.
pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) location: String,
    key: MasterKey,
    config: Bytes,
    /// One prune at a time from this process.
    pub(crate) pruning: Mutex<()>,
    /// The snapshots that were read.
    pub(crate) snapshots: Mutex<HashMap<SnapshotId, SnapshotFile>>,
}

impl Inner {
    /// A view for reading: with all that is there, marked for deletion or not.
    ///
    /// What a prune has marked may have come into use since, which the next prune will see. Until
    /// then the engine overlooks it. So what is marked is shown to it once more, in an index file
    /// that is nowhere but in memory.
    pub(crate) fn readable(&self) -> Result<(Arc<Session>, Repository<IndexedFullStatus>)> {
        retry_if_gone(|| {
            let (session, repository) = self.session()?;
            let repository = self.index(&session, repository)?;
            Ok((session, repository))
        })
    }

    /// Reads the index, marked or not.
    pub(crate) fn index(
        &self,
        session: &Session,
        repository: Repository<OpenStatus>,
    ) -> Result<Repository<IndexedFullStatus>> {
        let read = || -> Result<_, Box<RusticError>> {
            let (mut known, mut marked) = (HashSet::new(), IndexFile::default());
            for file in repository.stream_files::<IndexFile>()? {
                let (_, file) = file?;
                known.extend(file.packs.iter().map(|pack| pack.id));
                marked.packs.extend(file.packs_to_delete);
            }
            // Of packs that no index knew there is nothing but the name.
            marked.packs.retain(|pack| !known.contains(&pack.id) && !pack.blobs.is_empty());
            Ok(marked)
        };
        session.keep_index();
        let marked = read().map_err(|error| session.explain(&error))?;
        if !marked.packs.is_empty() {
            let json = serde_json::to_vec(&marked);
            let json = json.map_err(|error| VaultError::Internal(error.to_string()))?;
            session.show_index(seal(&self.key, &json)?);
        }
        let indexed = repository.to_indexed().map_err(|error| session.explain(&error));
        session.drop_index();
        indexed
    }

    /// A view of the files as they are now, and the engine on it. One for each operation: what the
    /// engine read once it does not read again.
    pub(crate) fn session(&self) -> Result<(Arc<Session>, Repository<OpenStatus>)> {
        let config = Some(self.config.clone());
        let session = Session::new(Arc::clone(&self.store), self.location.clone(), config);
        let repository = engine(&session)
            .and_then(|engine| engine.open(&Credentials::Masterkey(self.key.clone())))
            .map_err(|error| session.explain(&error))?;
        Ok((session, repository))
    }
}

pub(crate) fn open(location: &Location, key: &Key) -> Result<Inner> {
    let store = store::at(location)?;
    let location = location.to_string();
    let storage = |path: &str| {
        let (path, location) = (path.to_owned(), location.clone());
        move |source| VaultError::Storage { doing: "read", path, location, source }
    };
    let header = match store.read(HEADER) {
        Ok(bytes) => Some(header(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(storage(HEADER)(error)),
    };
    if let Some(header) = &header
        && header.format > FORMAT
    {
        let what = format!("the vault at {location}");
        return Err(VaultError::NewerFormat { what, found: header.format, known: FORMAT });
    }
    let config = match store.read("config") {
        Ok(config) => config,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let has_content = || -> io::Result<bool> {
                Ok(!store.list("snapshots")?.is_empty() || !store.list("index")?.is_empty())
            };
            if header.is_some() || has_content().map_err(storage("snapshots"))? {
                return Err(VaultError::damaged(format!("{location}/config is missing")));
            }
            return Err(VaultError::NotAVault { location });
        }
        Err(error) => return Err(storage("config")(error)),
    };
    let hash = hex::encode(&Sha256::digest(&config));
    if header.as_ref().is_some_and(|header| header.config != hash) {
        return Err(VaultError::damaged(format!("{location}/config is not what was written")));
    }
    let master_key = match key {
        Key::Random(key) => with_master_key(&store, &location, derive(key)?)?,
        Key::Passphrase(passphrase) => with_passphrase(&store, &location, passphrase.expose())?,
    };
    if header.is_none() {
        write_header(&*store, &location, &config)?;
    }
    Ok(Inner {
        store,
        location,
        key: master_key,
        config,
        pruning: Mutex::default(),
        snapshots: Mutex::default(),
    })
}

pub(crate) fn open_or_create(location: &Location, key: &Key) -> Result<Inner> {
    match open(location, key) {
        Err(VaultError::NotAVault { .. }) => {}
        other => return other,
    }
    if let Location::Dir(path) = location {
        refuse_foreign(path)?;
    }
    let store = store::at(location)?;
    let name = location.to_string();
    let session = Session::new(Arc::clone(&store), name.clone(), None);
    let credentials = match key {
        Key::Random(key) => Credentials::Masterkey(derive(key)?),
        Key::Passphrase(passphrase) => Credentials::Password(passphrase.expose().to_owned()),
    };
    let mut options = ConfigOptions::default().set_version(ENGINE_FORMAT);
    options.set_datapack_size = Some(size(PACK_SIZE)?);
    options.set_datapack_size_limit = Some(size(4 * PACK_SIZE)?);
    options.set_treepack_size_limit = Some(size(PACK_SIZE)?);
    let made = engine(&session)
        .and_then(|engine| engine.init(&credentials, &KeyOptions::default(), &options));
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let error = session.explain(&error);
            if store.read("config").is_err() {
                return Err(error);
            }
            // Somebody else was first: the key file written here belongs to no vault.
            for path in session.written() {
                store.remove(&path).map_err(|error| session.storage("remove", path, error))?;
            }
            return open(location, key);
        }
    };
    let read = store.read("config");
    let config = read.map_err(|error| session.storage("read", "config".to_owned(), error))?;
    write_header(&*store, &name, &config)?;
    Ok(Inner {
        store,
        location: name,
        key: made.key(),
        config,
        pruning: Mutex::default(),
        snapshots: Mutex::default(),
    })
}

/// Sizes are of a type of the engine's that has no name here, but reads from text.
fn size<T: std::str::FromStr>(bytes: u64) -> Result<T> {
    bytes.to_string().parse().map_err(|_| VaultError::Internal(format!("{bytes} is no size")))
}

fn refuse_foreign(path: &std::path::Path) -> Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(VaultError::tree("list", path)(error)),
    };
    for entry in entries {
        let name = entry.map_err(VaultError::tree("list", path))?.file_name();
        let name = name.to_string_lossy();
        if !OURS.contains(&&*name) && !name.starts_with(".tmp-") {
            return Err(VaultError::Invalid(format!(
                "{} holds {name:?}, so no vault is made there: give a directory that is empty or \
                 does not exist",
                path.display()
            )));
        }
    }
    Ok(())
}

fn header(bytes: &[u8]) -> Result<Header> {
    serde_json::from_slice(bytes)
        .map_err(|error| VaultError::damaged(format!("{HEADER} cannot be read: {error}")))
}

fn write_header(store: &dyn Store, location: &str, config: &[u8]) -> Result<()> {
    let header = Header { format: FORMAT, config: hex::encode(&Sha256::digest(config)) };
    let bytes = serde_json::to_vec(&header).map_err(|e| VaultError::Internal(e.to_string()))?;
    store.write(HEADER, vec![bytes.into()]).map_err(|source| VaultError::Storage {
        doing: "write",
        path: HEADER.to_owned(),
        location: location.to_owned(),
        source,
    })
}

fn engine(session: &Arc<Session>) -> Result<Repository<()>, Box<RusticError>> {
    let backends = RepositoryBackends::new(Arc::new(View(Arc::clone(session))), None);
    Repository::new(&RepositoryOptions::default().no_cache(true), &backends)
}

fn with_master_key(store: &Arc<dyn Store>, location: &str, key: MasterKey) -> Result<MasterKey> {
    let session = Session::new(Arc::clone(store), location.to_owned(), None);
    match engine(&session).and_then(|engine| engine.open(&Credentials::Masterkey(key.clone()))) {
        Ok(_) => Ok(key),
        Err(error) => Err(refusal(&session, location, &error)),
    }
}

fn with_passphrase(store: &Arc<dyn Store>, location: &str, passphrase: &str) -> Result<MasterKey> {
    let storage = |path: String| {
        let location = location.to_owned();
        move |source| VaultError::Storage { doing: "read", path, location, source }
    };
    let mut refused = VaultError::WrongKey { location: location.to_owned() };
    for (name, _) in store.list("keys").map_err(storage("keys".to_owned()))? {
        let path = format!("keys/{name}");
        let bytes = store.read(&path).map_err(storage(path.clone()))?;
        if hex::encode(&Sha256::digest(&bytes)) != name {
            refused = VaultError::damaged(format!("{path} is not what was written"));
            continue;
        }
        let id: Id = name
            .parse()
            .map_err(|_| VaultError::damaged(format!("{path} is no file of a vault")))?;
        let session = Session::with_key(Arc::clone(store), location.to_owned(), id);
        let credentials = Credentials::Password(passphrase.to_owned());
        match engine(&session).and_then(|engine| engine.open(&credentials)) {
            Ok(open) => return Ok(open.key()),
            Err(error) => match refusal(&session, location, &error) {
                VaultError::WrongKey { .. } => {}
                error => return Err(error),
            },
        }
    }
    Err(refused)
}

/// Why the engine did not open a vault whose `config` is known to be sound.
fn refusal(session: &Session, location: &str, error: &RusticError) -> VaultError {
    if let Some(failure) = session.failure() {
        return failure;
    }
    let text = describe(error);
    let version = text
        .strip_prefix("Config version `")
        .and_then(|rest| rest.split_once('`'))
        .and_then(|(version, _)| version.parse().ok());
    match version {
        Some(found) => VaultError::NewerFormat {
            what: format!("the vault at {location}"),
            found,
            known: ENGINE_FORMAT,
        },
        None => VaultError::WrongKey { location: location.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustic_core::{Credentials, KeyOptions, repofile::ConfigFile};

    use super::{derive, engine, open, store};
    use crate::{Key, Location, VaultError, session::Session};

    #[test]
    fn a_vault_of_a_newer_engine_is_told_from_a_wrong_key() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Dir(dir.path().join("vault"));
        let store = store::at(&location).unwrap();
        let session = Session::new(Arc::clone(&store), location.to_string(), None);
        let credentials = Credentials::Masterkey(derive(&[1; 32]).unwrap());
        let newer = ConfigFile { version: 3, ..ConfigFile::default() };
        let made =
            engine(&session).unwrap().init_with_config(&credentials, &KeyOptions::default(), newer);
        assert!(made.is_err(), "the engine cannot use it either");
        let refused = open(&location, &Key::Random([1; 32])).err().unwrap();
        assert!(matches!(refused, VaultError::NewerFormat { found: 3, known: 2, .. }), "{refused}");
        let refused = open(&location, &Key::Random([2; 32])).err().unwrap();
        assert!(matches!(refused, VaultError::WrongKey { .. }), "{refused}");
    }
}
