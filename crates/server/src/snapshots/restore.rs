//! Starting from a backup on another machine: a data directory is made of it while no server runs
//! there.
//!
//! A file, [`UNFINISHED`], is there from the first change to the last. A server refuses to start
//! while it is; the same restore run again goes on where the one before was ended. The database
//! gets its name last, so that there is none without all that it refers to.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use rclaude_sandbox::{
    local::{LocalConfig, LocalProvider},
    provider::SandboxProvider as _,
};
use rclaude_store::{Store, carry, checkpoint::LayerRow, meta, session};
use rclaude_types::{ErrorCode, Problem, Timestamp};
use rclaude_vault::{Key, Location, Secret, Vault};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    backup::hash_file,
    failure::Failure,
    fetching::bring,
    keeping::digest,
    keyring,
    manifest::{self, Manifest},
    place,
};
use crate::config::{DataDir, write_private};

/// The file that says that a restore was begun and not finished.
const UNFINISHED: &str = "restoring";

/// What may be in a data directory that counts as empty.
const ALLOWED: [&str; 2] = ["lock", "agents"];

/// What is to be restored, from where to where.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Where the new server's state is to be.
    pub data_dir: PathBuf,
    /// Where backups are.
    pub from: Location,
    /// Which one; the newest if absent.
    pub backup: Option<String>,
    /// The lost server's keyring, or the passphrase it was given.
    pub key: RestoreKey,
    /// Leave layers where they are; each is fetched when a session needs it.
    pub lazy: bool,
    /// Program and first arguments that start the local engine's supervisor.
    pub supervisor: Vec<OsString>,
}

/// What opens the store that backups are in.
#[derive(Debug, Clone)]
pub enum RestoreKey {
    /// The lost server's keyring.
    Keyring([u8; 32]),
    /// The passphrase it was given.
    Passphrase(Secret),
}

/// What a restore is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bringing back repositories.
    Repositories,
    /// Bringing back the database.
    Database,
    /// Bringing back so many layers, of so many.
    Layers(usize, usize),
}

/// What was restored.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The backup's name.
    pub backup: String,
    /// When what it holds was true.
    pub at: Timestamp,
    /// The machine it was made on.
    pub host: String,
    /// Sessions in it.
    pub sessions: u64,
    /// Layers that were brought back, or left to be fetched.
    pub layers: u64,
    /// They were left to be fetched.
    pub lazy: bool,
    /// Layers that the backup knew to be missing.
    pub missing: u64,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    from: String,
    backup: String,
}

/// Whether a data directory holds a restore that was not finished.
pub(crate) fn is_unfinished(data_dir: &Path) -> bool {
    data_dir.join(UNFINISHED).exists()
}

/// Makes a data directory of a backup. No server may run there; it has to be empty.
///
/// # Errors
///
/// A problem that says what to do; the directory is as it was, or as a restore that goes on when
/// it is run again.
pub async fn restore(
    options: RestoreOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Restored, Problem> {
    Ok(run(options, progress).await?)
}

async fn run(
    options: RestoreOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Restored, Failure> {
    let started = Instant::now();
    let begun = look_at(&options)?;
    let key = match &options.key {
        RestoreKey::Keyring(key) => Key::Random(*key),
        RestoreKey::Passphrase(passphrase) => Key::Passphrase(passphrase.clone()),
    };
    let vault = Vault::open(&options.from, &key).await?;
    let wanted = begun.or_else(|| options.backup.clone());
    if wanted.is_none() {
        refuse_several(&vault).await?;
    }
    let manifest = manifest::find(&vault, wanted.as_deref()).await?;

    let data = DataDir::open(&options.data_dir)
        .map_err(|error| Failure::refused(ErrorCode::Conflict, error.to_string()))?;
    let dir = data.path().to_owned();
    // Another may have come in between.
    look_at(&options)?;
    let disk = || Failure::disk(format!("writing to {}", dir.display()));
    let marker = Marker { from: options.from.to_string(), backup: manifest.name.clone() };
    let marker = serde_json::to_vec(&marker).map_err(|error| Failure::Other(error.to_string()))?;
    write_private(&dir.join(UNFINISHED), &marker).map_err(disk())?;
    if let RestoreKey::Keyring(key) = &options.key {
        keyring::put(&dir, key).map_err(disk())?;
    }
    let secret = keyring::parse_hex(&manifest.secrets.secret)
        .ok_or_else(|| Failure::Other("the backup's secret is damaged".to_owned()))?;
    write_private(&dir.join("secret"), &secret).map_err(disk())?;
    write_private(&dir.join("token"), manifest.secrets.token.as_bytes()).map_err(disk())?;

    progress(Progress::Repositories);
    repositories(&vault, &manifest, &dir).await?;
    progress(Progress::Database);
    let database = database(&vault, &manifest, &dir, &options).await?;
    if !options.lazy {
        layers(&vault, &manifest, &dir, &options, progress).await?;
    }
    let finish = || {
        fs::rename(&database, dir.join("rclaude.db"))?;
        fs::File::open(&dir)?.sync_all()?;
        fs::remove_file(dir.join(UNFINISHED))?;
        fs::File::open(&dir)?.sync_all()
    };
    finish().map_err(disk())?;
    Ok(Restored {
        sessions: manifest.sessions,
        layers: manifest.layers.len() as u64,
        missing: manifest.missing.len() as u64,
        backup: manifest.name,
        at: manifest.at,
        host: manifest.host,
        lazy: options.lazy,
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Refuses a directory that is not empty, but for what the same restore left there: then the name
/// of the backup that was begun with. Changes nothing.
fn look_at(options: &RestoreOptions) -> Result<Option<String>, Failure> {
    let dir = &options.data_dir;
    let conflict = |text| Err(Failure::refused(ErrorCode::Conflict, text));
    let marker = match fs::read(dir.join(UNFINISHED)) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::disk(format!("reading {}", dir.display()))(error)),
    };
    if let Some(text) = marker {
        let Ok(marker) = serde_json::from_slice::<Marker>(&text) else {
            return conflict(format!(
                "{} holds a restore that cannot be gone on with: empty it, then restore again",
                dir.display()
            ));
        };
        let same = marker.from == options.from.to_string()
            && options.backup.as_ref().is_none_or(|name| *name == marker.backup);
        if same {
            return Ok(Some(marker.backup));
        }
        return conflict(format!(
            "in {} a restore of backup {} from {} was begun: run that again, or empty the directory",
            dir.display(),
            marker.backup,
            marker.from
        ));
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::disk(format!("reading {}", dir.display()))(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Failure::disk(format!("reading {}", dir.display())))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !ALLOWED.contains(&name.as_str()) {
            return conflict(format!(
                "{} is not empty (it holds {name}): a backup is restored into an empty data \
                 directory; give another with --data-dir",
                dir.display()
            ));
        }
    }
    Ok(None)
}

/// Several servers may keep their backups in one place: then it has to be said which is meant.
async fn refuse_several(vault: &Vault) -> Result<(), Failure> {
    let all = manifest::all(vault).await?;
    let servers: BTreeSet<_> = all.iter().map(|backup| &backup.server).collect();
    if servers.len() < 2 {
        return Ok(());
    }
    let newest: Vec<_> = servers
        .iter()
        .filter_map(|server| all.iter().rev().find(|backup| backup.server == **server))
        .map(|backup| format!("{} of {}", backup.name, backup.host))
        .collect();
    Err(Failure::refused(
        ErrorCode::InvalidRequest,
        format!(
            "there are backups of {} servers: name one with --backup; the newest are {}",
            servers.len(),
            newest.join(", ")
        ),
    ))
}

async fn repositories(vault: &Vault, manifest: &Manifest, dir: &Path) -> Result<(), Failure> {
    for room in &manifest.repositories {
        let place = dir.join("repos").join(plain(&room.name)?);
        fs::create_dir_all(&place).map_err(Failure::disk("making a repository's room"))?;
        for (path, saved) in &room.trees {
            let target = place.join(plain(path)?);
            // Those of refs stand one deeper than what is handed out.
            if target.exists() {
                continue;
            }
            let aside = target.with_file_name(".tmp-restoring");
            let clear = || match fs::remove_dir_all(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => fs::create_dir_all(target.parent().unwrap_or(&place)),
            };
            clear().map_err(Failure::disk("making a repository's room"))?;
            vault.restore(&saved.snapshot, &aside).await?;
            if digest(aside.clone()).await?.to_string() != saved.digest {
                let text = format!("repository {}/{path} came back damaged", room.name);
                return Err(Failure::Other(text));
            }
            fs::rename(&aside, &target).map_err(Failure::disk("putting a repository in place"))?;
        }
        for (name, text) in &room.files {
            let write = write_private(&place.join(plain(name)?), text.as_bytes());
            write.map_err(Failure::disk("writing a repository's files"))?;
        }
    }
    Ok(())
}

/// A relative path without tricks.
fn plain(path: &str) -> Result<&Path, Failure> {
    let path = Path::new(path);
    let ordinary = |part| matches!(part, std::path::Component::Normal(_));
    if path.components().all(ordinary) && path.components().next().is_some() {
        Ok(path)
    } else {
        Err(Failure::Other(format!("{} is no path in the cache", path.display())))
    }
}

/// The database, with all in it as it has to be here, under a name that no server looks for.
async fn database(
    vault: &Vault,
    manifest: &Manifest,
    dir: &Path,
    options: &RestoreOptions,
) -> Result<PathBuf, Failure> {
    let file = dir.join("restored.db");
    for name in ["restored.db", "restored.db-wal", "restored.db-shm", "restored.db-journal"] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::disk("making room for the database")(error));
            }
            _ => {}
        }
    }
    vault.restore_file(&manifest.database.snapshot, &file).await?;
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(Failure::disk("writing the database"))?;
    if hash_file(&file).await?.1 != manifest.database.sha256 {
        return Err(Failure::Other("the database came back damaged".to_owned()));
    }
    let store = Store::open(&file).await?;
    let mut conn = store.read().await?;
    let live = session::list_live(&mut conn).await?;
    drop(conn);
    let (old, new) = (manifest.data_dir.clone(), dir.to_owned());
    let moved: Vec<_> = live
        .into_iter()
        .filter_map(|row| {
            let mut checkout = row.checkout?;
            moved(&mut checkout, &old, &new).then_some((row.id, checkout))
        })
        .collect();
    // Where all of them are here, nothing need be known of any store: whatever is said to lie in
    // one may be removed here.
    let rows: Vec<LayerRow> = if options.lazy {
        manifest.layers.iter().map(manifest::SavedLayer::row).collect()
    } else {
        Vec::new()
    };
    let identity = place::identify(vault).await?;
    let location = options.lazy.then(|| options.from.to_string());
    let at = manifest.at;
    let write = store.write(async move |tx| {
        carry::set_stored_layers(tx, &rows, at).await?;
        for (id, checkout) in &moved {
            carry::set_checkout(tx, id, checkout).await?;
        }
        // Of a store without a name the server makes sure by itself what it holds.
        meta::set(tx, place::KNOWN, identity.as_deref().unwrap_or_default()).await?;
        match location {
            Some(location) => meta::set(tx, place::WHERE, &location).await,
            None => Ok(()),
        }
    });
    write.await?;
    store.close().await;
    if dir.join("restored.db-wal").exists() {
        return Err(Failure::Other("the database was not closed cleanly: run it again".to_owned()));
    }
    Ok(file)
}

/// Puts the new data directory in place of the old one wherever a path begins with it. Whether
/// anything was changed.
fn moved(value: &mut Value, old: &Path, new: &Path) -> bool {
    match value {
        Value::String(text) => {
            let Ok(inside) = Path::new(text.as_str()).strip_prefix(old) else { return false };
            *text = new.join(inside).to_string_lossy().into_owned();
            old != new
        }
        Value::Array(items) => {
            items.iter_mut().fold(false, |any, item| moved(item, old, new) | any)
        }
        Value::Object(map) => map.values_mut().fold(false, |any, item| moved(item, old, new) | any),
        _ => false,
    }
}

async fn layers(
    vault: &Vault,
    manifest: &Manifest,
    dir: &Path,
    options: &RestoreOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), Failure> {
    let mut local = LocalConfig::new(dir.join("engine"), "");
    local.supervisor.clone_from(&options.supervisor);
    let provider = LocalProvider::open(local).await?;
    let Some(layering) = provider.layering() else {
        let text = "this host cannot keep layers: restore with --lazy";
        return Err(Failure::refused(ErrorCode::HostUnsupported, text));
    };
    let all = manifest.layers.len();
    for (done, layer) in manifest.layers.iter().enumerate() {
        progress(Progress::Layers(done, all));
        if layering.layer(&layer.layer).await?.is_none() {
            bring(layering, vault, &layer.row()).await.map_err(|failure| match failure {
                Failure::Other(text) => Failure::Other(format!("layer {}: {text}", layer.layer)),
                other => other,
            })?;
        }
    }
    progress(Progress::Layers(all, all));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_old_directory_and_no_others_move_to_the_new() {
        let mut checkout = serde_json::json!({
            "branch": "rclaude/old", "layers": ["/old/repos/x/layer", "/older/y", "/old"],
            "binds": [{ "source": "/old/repos/z", "target": "/opt" }],
        });
        assert!(moved(&mut checkout, Path::new("/old"), Path::new("/new/place")));
        assert_eq!(
            checkout,
            serde_json::json!({
                "branch": "rclaude/old",
                "layers": ["/new/place/repos/x/layer", "/older/y", "/new/place/"],
                "binds": [{ "source": "/new/place/repos/z", "target": "/opt" }],
            })
        );
        assert!(!moved(&mut checkout, Path::new("/old"), Path::new("/new")));
    }

    #[test]
    fn a_path_that_leaves_the_cache_is_refused() {
        assert!(plain("refs/ab/layer").is_ok());
        for path in ["", "/etc", "../x", "a/../../b"] {
            assert!(plain(path).is_err(), "{path}");
        }
    }
}
