//! Making a backup: a copy of the database, all layers it refers to, the repositories they stand
//! on, and last the manifest.
//!
//! The order makes it sound at any moment of a crash: what the copy of the database refers to
//! existed when it was copied, and is held until it has been saved. Without its manifest all of
//! it is nothing but data that the next backup finds there already.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs, io,
    path::Path,
    time::Instant,
};

use futures::FutureExt;
use rclaude_store::{Store, checkpoint, idempotency, meta, sandbox, session};
use rclaude_types::{Backup, ErrorCode, LayerId, Problem, SessionId, Timestamp};
use rclaude_vault::{Location, SnapshotId, Vault};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Snapshots,
    failure::Failure,
    keeping::{digest, few},
    keyring,
    manifest::{self, Manifest, SavedFile, SavedLayer, SavedRoom, SavedTree, Secrets},
    options::is_elsewhere,
};
use crate::{repo::Checkout, session::manager::Idempotency};

/// The word in the database that tells servers apart.
const SERVER: &str = "server";
/// What names of backups that nobody asked for end with.
const SCHEDULED: &str = "-auto";
/// What snapshots of databases are saved under, before the server's id.
pub(super) const DATABASE: &str = "database/";
/// The same for repositories.
pub(super) const REPOSITORY: &str = "repository/";

/// A layer that a database refers to, and whose it is.
type Wanted = BTreeMap<LayerId, SessionId>;

impl Snapshots {
    /// Makes a backup at this place, or where this server's backups go. The same request comes to
    /// the same backup.
    pub(crate) async fn backup(
        &self,
        to: Option<&str>,
        once: Option<Idempotency>,
    ) -> Result<Backup, Problem> {
        let made = self.backup_once(to, once).await;
        if to.is_none() {
            self.0.own.note(&made);
        }
        Ok(made?)
    }

    async fn backup_once(
        &self,
        to: Option<&str>,
        once: Option<Idempotency>,
    ) -> Result<Backup, Failure> {
        let location = self.place(to).await?;
        let name = self.new_name(false).await?;
        let name = match once {
            None => name,
            Some(once) => self.claim(once, name).await?,
        };
        let _one = self.0.backing_up.lock().await;
        let vault = self.vault_at(&location).await?;
        // An earlier request under the same key may have made it.
        if let Some(made) = manifest::get(&vault, &name).await? {
            return Ok(made.shown(&location.to_string()));
        }
        let made = self.make(&vault, &location, name, false).await?;
        Ok(made.shown(&location.to_string()))
    }

    /// Makes a backup that nobody asked for, and removes those that it takes the place of.
    pub(super) async fn backup_as_scheduled(&self) -> Result<Backup, Failure> {
        let location = self.place(None).await?;
        let _one = self.0.backing_up.lock().await;
        let vault = self.vault_at(&location).await?;
        let made = self.make(&vault, &location, self.new_name(true).await?, true).await?;
        self.thin_out(&vault).await?;
        Ok(made.shown(&location.to_string()))
    }

    /// The backups at a place, newest first.
    pub(crate) async fn backups(&self, at: Option<&str>) -> Result<Vec<Backup>, Problem> {
        let list = async {
            let location = self.place(at).await?;
            let vault = self.existing(&location).await?;
            let mut all = manifest::all(&vault).await?;
            all.reverse();
            Ok(all.iter().map(|backup| backup.shown(&location.to_string())).collect())
        };
        let listed: Result<_, Failure> = list.await;
        Ok(listed?)
    }

    /// A place for backups.
    pub(super) async fn place(&self, text: Option<&str>) -> Result<Location, Failure> {
        match (text, &self.0.options.backup_to) {
            (Some(text), _) => Ok(self.0.options.place(text)?),
            (None, Some(location)) => Ok(location.clone()),
            (None, None) => self.0.own.location().await,
        }
    }

    /// The vault at a place; made if there is none.
    async fn vault_at(&self, location: &Location) -> Result<Vault, Failure> {
        let own = self.0.own.location().await?;
        if own.to_string() == location.to_string() {
            return self.0.own.vault().await;
        }
        Ok(Vault::open_or_create(location, &self.key().await?).await?)
    }

    /// The vault at a place, where there has to be one.
    pub(super) async fn existing(&self, location: &Location) -> Result<Vault, Failure> {
        Ok(Vault::open(location, &self.key().await?).await?)
    }

    async fn key(&self) -> Result<rclaude_vault::Key, Failure> {
        let (options, data_dir) = (self.0.options.clone(), self.0.data_dir.clone());
        let key = tokio::task::spawn_blocking(move || options.key(&data_dir)).await;
        key.map_err(io::Error::other)
            .and_then(|key| key)
            .map_err(Failure::disk("the keyring cannot be used"))
    }

    /// Says when, whose, and whether somebody asked for it, so that none has to be read for that.
    async fn new_name(&self, scheduled: bool) -> Result<String, Failure> {
        let mine = self.mine().await?;
        let ending = if scheduled { SCHEDULED } else { "" };
        Ok(format!("{}{mine}{ending}", compact(self.0.clock.now())))
    }

    /// What names of this server's backups have after the time.
    async fn mine(&self) -> Result<String, Failure> {
        Ok(format!("-{}", &self.server().await?[..8]))
    }

    /// The name that the first request under a key chose.
    async fn claim(&self, once: Idempotency, name: String) -> Result<String, Failure> {
        let (now, chosen) = (self.0.clock.now(), name.clone());
        let claim = self.0.store.write(async move |tx| {
            let claim = idempotency::claim(tx, &once.key, &once.digest, now).await?;
            if claim == idempotency::Claim::New {
                idempotency::answer(tx, &once.key, &Value::from(chosen)).await?;
            }
            Ok(claim)
        });
        match claim.await? {
            idempotency::Claim::New => Ok(name),
            idempotency::Claim::Same(Value::String(first)) => Ok(first),
            idempotency::Claim::Same(_) | idempotency::Claim::Mismatch => Err(Failure::refused(
                ErrorCode::IdempotencyMismatch,
                "this Idempotency-Key was used for another request within the last day; use a new \
                 key",
            )),
        }
    }

    async fn make(
        &self,
        vault: &Vault,
        location: &Location,
        name: String,
        scheduled: bool,
    ) -> Result<Manifest, Failure> {
        let (started, at) = (Instant::now(), self.0.clock.now());
        let inner = &*self.0;
        let _held = self.hold().await;
        let server = self.server().await?;
        let scratch = inner.scratch.make("backup").map_err(Failure::disk("making room"))?;
        let copy = scratch.path().join("rclaude.db");
        inner.store.copy_to(&copy).await?;

        let copied = Store::open(&copy).await?;
        let mut conn = copied.read().await?;
        let wanted = wanted(&mut conn).await?;
        let live = session::list_live(&mut conn).await?;
        drop(conn);
        copied.close().await;
        let checkouts: Vec<Checkout> = live
            .iter()
            .filter_map(|row| serde_json::from_value(row.checkout.clone()?).ok())
            .collect();

        let before = self.newest_of(vault).await?;
        let mut added = Added::default();
        let (layers, missing) =
            self.save_layers(vault, location, &wanted, before.as_ref(), &mut added).await?;
        let before = before.as_ref();
        let repositories =
            self.save_rooms(vault, &checkouts, &server, before, scratch.path(), &mut added).await?;
        let (bytes, sha256) = hash_file(&copy).await?;
        let saved = vault.save_file(&copy, &format!("{DATABASE}{server}")).await?;
        added.bytes += saved.added_bytes;
        let manifest = Manifest {
            format: manifest::FORMAT,
            name,
            server,
            scheduled,
            at,
            host: host(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data_dir: inner.data_dir.clone(),
            sessions: live.len() as u64,
            database: SavedFile { snapshot: saved.id, bytes, sha256 },
            added_bytes: added.bytes,
            layers,
            missing,
            repositories,
            secrets: secrets(&inner.data_dir)?,
            millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        manifest.put(vault).await?;
        tracing::info!(
            backup = manifest.name,
            layers = manifest.layers.len(),
            millis = manifest.millis,
            "made a backup at {location}"
        );
        Ok(manifest)
    }

    /// Which server this is: the same for as long as its database lives.
    pub(super) async fn server(&self) -> Result<String, Failure> {
        let fresh = crate::auth::random_hex()[..16].to_owned();
        let known = self.0.store.write(async move |tx| meta::get_or_set(tx, SERVER, &fresh).await);
        Ok(known.await?)
    }

    async fn newest_of(&self, vault: &Vault) -> Result<Option<Manifest>, Failure> {
        let mine = self.mine().await?;
        let documents = vault.documents(manifest::PREFIX).await?;
        let Some(newest) = documents.iter().rev().find(|document| document.name.contains(&mine))
        else {
            return Ok(None);
        };
        let name = newest.name.strip_prefix(manifest::PREFIX).unwrap_or_default();
        Ok(manifest::get(vault, name).await.unwrap_or_else(|failure| {
            // A new one is made all the same.
            tracing::warn!(backup = name, %failure, "the backup before cannot be read");
            None
        }))
    }

    /// Has every layer in the vault. Those that are nowhere to be found are named.
    async fn save_layers(
        &self,
        vault: &Vault,
        location: &Location,
        wanted: &Wanted,
        before: Option<&Manifest>,
        added: &mut Added,
    ) -> Result<(Vec<SavedLayer>, Vec<LayerId>), Failure> {
        let own = self.0.own.location().await?.to_string() == location.to_string();
        let known = self.known(vault, own, before).await?;
        let (mut layers, mut work) = (Vec::new(), Vec::new());
        for (layer, session) in wanted {
            if let Some(saved) = known.get(layer) {
                layers.push(saved.clone());
                continue;
            }
            let (this, vault) = (self.clone(), vault.clone());
            let (layer, session) = (layer.clone(), session.clone());
            let save = async move {
                let saved = this.save_layer(&vault, own, &layer, &session).await?;
                Ok((layer, saved))
            };
            work.push(save.boxed());
        }
        let mut missing = Vec::new();
        for (layer, saved) in few(work).await? {
            if let Some((saved, bytes)) = saved {
                added.bytes += bytes;
                layers.push(saved);
            } else {
                tracing::error!(%layer, "a layer is neither here nor in the snapshot store");
                missing.push(layer);
            }
        }
        if own {
            self.note_stored(&layers).await?;
        }
        Ok((layers, missing))
    }

    async fn save_layer(
        &self,
        vault: &Vault,
        own: bool,
        layer: &LayerId,
        session: &SessionId,
    ) -> Result<Option<(SavedLayer, u64)>, Failure> {
        let Some(layering) = self.0.provider.layering() else { return Ok(None) };
        if layering.layer(layer).await?.is_some() {
            let label = session.as_str();
            let (row, added) = if own {
                self.keep(layer, label).await?
            } else {
                self.save(vault, layer, label).await?
            };
            return Ok(Some((SavedLayer::of(&row)?, added)));
        }
        if own {
            return Ok(None);
        }
        // Of a session that lies in the server's own store alone.
        let mut conn = self.0.store.read().await?;
        let Some(row) = checkpoint::stored_layer(&mut conn, layer).await? else { return Ok(None) };
        drop(conn);
        let row = SavedLayer::of(&row)?;
        let place = self.0.scratch.make("layer").map_err(Failure::disk("making room"))?;
        let tree = place.path().join("tree");
        self.0.own.vault().await?.restore(&row.snapshot, &tree).await?;
        if digest(tree.clone()).await?.to_string() != row.digest {
            return Err(Failure::Other(format!("layer {layer} came back damaged")));
        }
        let saved = vault.save(&tree, session.as_str()).await?;
        Ok(Some((SavedLayer { snapshot: saved.id, ..row }, saved.added_bytes)))
    }

    /// The layers that are in the vault already.
    async fn known(
        &self,
        vault: &Vault,
        own: bool,
        before: Option<&Manifest>,
    ) -> Result<HashMap<LayerId, SavedLayer>, Failure> {
        if own {
            let mut conn = self.0.store.read().await?;
            let rows = checkpoint::stored_layers(&mut conn).await?;
            return rows.iter().map(|row| Ok((row.id.clone(), SavedLayer::of(row)?))).collect();
        }
        let Some(before) = before else { return Ok(HashMap::new()) };
        let there: HashSet<SnapshotId> =
            vault.list().await?.into_iter().map(|snapshot| snapshot.id).collect();
        let layers = before.layers.iter().filter(|layer| there.contains(&layer.snapshot));
        Ok(layers.map(|layer| (layer.layer.clone(), layer.clone())).collect())
    }

    /// Notes which checkpoints the server's own store now holds all of.
    async fn note_stored(&self, layers: &[SavedLayer]) -> Result<(), Failure> {
        let held: HashSet<LayerId> = layers.iter().map(|layer| layer.layer.clone()).collect();
        let write = self.0.store.write(async move |tx| {
            for stack in checkpoint::stacks(tx).await? {
                if !stack.stored && stack.layers.iter().all(|layer| held.contains(layer)) {
                    checkpoint::set_stored(tx, &stack.id).await?;
                }
            }
            Ok(())
        });
        Ok(write.await?)
    }

    /// Saves what sessions' checkouts can be made of again.
    async fn save_rooms(
        &self,
        vault: &Vault,
        checkouts: &[Checkout],
        server: &str,
        before: Option<&Manifest>,
        scratch: &Path,
        added: &mut Added,
    ) -> Result<Vec<SavedRoom>, Failure> {
        let earlier: HashMap<_, _> = before
            .iter()
            .flat_map(|manifest| &manifest.repositories)
            .map(|room| (room.name.as_str(), room))
            .collect();
        let mut rooms = Vec::new();
        let names: BTreeSet<_> = self.0.repos.rooms(checkouts);
        for name in names {
            let staged = self.0.repos.stage(&name, checkouts, &scratch.join("repos")).await;
            let staged = staged.map_err(|error| Failure::Other(error.to_string()))?;
            let known = earlier.get(name.as_str()).map(|room| &room.trees);
            let mut trees = BTreeMap::new();
            for (path, tree) in staged.trees {
                let fingerprint = fingerprint(tree.clone()).await?;
                let same = known
                    .and_then(|known| known.get(&path))
                    .filter(|saved| saved.fingerprint == fingerprint);
                let saved = if let Some(saved) = same {
                    saved.clone()
                } else {
                    let label = format!("{REPOSITORY}{server}/{name}");
                    let saved = vault.save(&tree, &label).await?;
                    added.bytes += saved.added_bytes;
                    let digest = digest(tree).await?.to_string();
                    SavedTree { snapshot: saved.id, digest, fingerprint }
                };
                trees.insert(path, saved);
            }
            rooms.push(SavedRoom { name, files: staged.files, trees });
        }
        Ok(rooms)
    }

    /// Removes scheduled backups of this server's that newer ones took the place of.
    async fn thin_out(&self, vault: &Vault) -> Result<(), Failure> {
        let ending = format!("{}{SCHEDULED}", self.mine().await?);
        let documents = vault.documents(manifest::PREFIX).await?;
        let scheduled: Vec<_> = documents
            .iter()
            .filter_map(|document| {
                let name = document.name.strip_prefix(manifest::PREFIX)?;
                let at = Timestamp::from_micros(document.put_at.as_microsecond());
                name.ends_with(&ending).then(|| (name.to_owned(), at))
            })
            .collect();
        for name in manifest::outdated(&scheduled, self.0.clock.now()) {
            let gone = manifest::get(vault, &name).await;
            vault.remove(&format!("{}{name}", manifest::PREFIX)).await?;
            // Nobody else has its database. Layers may be what a checkpoint still stands on: those
            // are the prune's.
            if let Ok(Some(gone)) = gone {
                vault.forget(&[gone.database.snapshot]).await?;
            }
        }
        Ok(())
    }

    /// Whether the server's own store survives this machine's disk.
    pub(super) async fn is_elsewhere(&self) -> Result<bool, Failure> {
        let (location, dir) = (self.0.own.location().await?, self.0.data_dir.clone());
        Ok(is_elsewhere(&location, &dir))
    }
}

#[derive(Debug, Default)]
struct Added {
    bytes: u64,
}

/// The layers that a database refers to.
async fn wanted(conn: &mut rclaude_store::Conn) -> Result<Wanted, Failure> {
    let mut wanted = Wanted::new();
    for stack in checkpoint::stacks(conn).await? {
        for layer in stack.layers {
            wanted.entry(layer).or_insert_with(|| stack.session.clone());
        }
    }
    for row in session::list_live(conn).await? {
        for layer in sandbox::current(conn, &row.id).await?.stack {
            wanted.entry(layer).or_insert_with(|| row.id.clone());
        }
    }
    Ok(wanted)
}

/// What the server is known by.
fn secrets(data_dir: &Path) -> Result<Secrets, Failure> {
    let read = |name: &str| {
        fs::read(data_dir.join(name)).map_err(Failure::disk(format!("reading {name}")))
    };
    Ok(Secrets {
        secret: keyring::to_hex(&read("secret")?),
        token: String::from_utf8_lossy(&read("token")?).into_owned(),
    })
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `20260101T120000.123Z`, from `2026-01-01T12:00:00.123Z`.
fn compact(at: Timestamp) -> String {
    let text: String = at.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    // Always as long, so that names sort by time.
    let seconds = text.split(['.', 'Z']).next().unwrap_or_default();
    format!("{seconds}.{:03}Z", at.as_micros().rem_euclid(1_000_000) / 1000)
}

/// A file's length and SHA-256.
pub(super) async fn hash_file(path: &Path) -> Result<(u64, String), Failure> {
    let path = path.to_owned();
    let hash = move || {
        let (mut file, mut hash) = (fs::File::open(&path)?, Sha256::new());
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok((bytes, keyring::to_hex(&hash.finalize()))),
                read => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
            }
        }
    };
    let done = tokio::task::spawn_blocking(hash).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    done.map_err(Failure::disk("reading the copy of the database"))
}

/// What tells two states of a tree apart without reading files: names, sizes, times.
async fn fingerprint(tree: std::path::PathBuf) -> Result<String, Failure> {
    let walk = move || {
        let (mut hash, mut todo) = (Sha256::new(), vec![tree.clone()]);
        while let Some(dir) = todo.pop() {
            let mut entries = fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let (path, meta) = (entry.path(), entry.metadata()?);
                let name = path.strip_prefix(&tree).unwrap_or(&path);
                hash.update(name.as_os_str().as_encoded_bytes());
                if meta.is_dir() {
                    hash.update(b"/\0");
                    todo.push(path);
                } else {
                    use std::os::unix::fs::MetadataExt;
                    let facts = [meta.size().cast_signed(), meta.mtime(), meta.mtime_nsec()];
                    hash.update([0]);
                    for fact in facts {
                        hash.update(fact.to_le_bytes());
                    }
                }
            }
        }
        Ok(keyring::to_hex(&hash.finalize()))
    };
    let done = tokio::task::spawn_blocking(walk).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    done.map_err(Failure::disk("looking at a repository"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_are_all_as_long() {
        let early = compact(Timestamp::from_micros(1_767_268_800_000_000));
        let late = compact(Timestamp::from_micros(1_767_268_800_250_000));
        assert_eq!((early.as_str(), late.len()), ("20260101T120000.000Z", early.len()));
        assert!(early < late);
    }
}
