//! Whether a backup would come back as it was saved: restored into a scratch place, and compared.

use std::{path::Path, time::Instant};

use futures::FutureExt;
use rclaude_store::{Store, carry, checkpoint};
use rclaude_types::{BackupVerdict, Problem};
use rclaude_vault::{SnapshotId, Vault, VaultError};

use super::{
    Snapshots,
    backup::hash_file,
    failure::Failure,
    keeping::{Work, digest, few},
    manifest::{self, Manifest},
};

impl Snapshots {
    /// Restores a backup, the newest if none is named, into a scratch place, and says what did not
    /// come back as it was saved.
    pub(crate) async fn verify_backup(
        &self,
        name: Option<&str>,
        at: Option<&str>,
    ) -> Result<BackupVerdict, Problem> {
        Ok(self.verify(name, at).await?)
    }

    async fn verify(&self, name: Option<&str>, at: Option<&str>) -> Result<BackupVerdict, Failure> {
        let started = Instant::now();
        let location = self.place(at).await?;
        let vault = self.existing(&location).await?;
        let manifest = manifest::find(&vault, name).await?;
        let scratch = self.0.scratch.make("verify").map_err(Failure::disk("making room"))?;
        let mut damage = database(&vault, &manifest, scratch.path()).await?;
        let mut work = Vec::new();
        for layer in &manifest.layers {
            let what = format!("layer {}", layer.layer);
            work.push(tree(&vault, what, layer.snapshot, &layer.digest, scratch.path()));
        }
        for room in &manifest.repositories {
            for (path, saved) in &room.trees {
                let what = format!("repository {}/{path}", room.name);
                work.push(tree(&vault, what, saved.snapshot, &saved.digest, scratch.path()));
            }
        }
        damage.extend(few(work).await?.into_iter().flatten());
        Ok(BackupVerdict {
            backup: manifest.shown(&location.to_string()),
            sound: damage.is_empty(),
            damage,
            millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// What is damaged, in words; an error that says nothing of this backup is passed on.
fn verdict(what: &str, failure: Failure) -> Result<String, Failure> {
    match failure {
        Failure::Vault(
            error @ (VaultError::Damaged { .. } | VaultError::NoSuchSnapshot { .. }),
        ) => Ok(format!("{what}: {error}")),
        // A file of the vault is gone.
        Failure::Vault(VaultError::Storage { path, source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(format!("{what}: {path} is missing from the vault"))
        }
        other => Err(other),
    }
}

/// Restores a tree and compares it; what is wrong with it.
fn tree(
    vault: &Vault,
    what: String,
    snapshot: SnapshotId,
    saved: &str,
    scratch: &Path,
) -> Work<Option<String>> {
    let (vault, saved, scratch) = (vault.clone(), saved.to_owned(), scratch.to_owned());
    let compare = async move {
        let place = tempfile::tempdir_in(&scratch).map_err(Failure::disk("making room"))?;
        let into = place.path().join("tree");
        let back = async {
            vault.restore(&snapshot, &into).await?;
            digest(into.clone()).await
        };
        match back.await {
            Ok(found) if found.to_string() == saved => Ok(None),
            Ok(found) => Ok(Some(format!(
                "{what}: it came back with digest {found}, and was saved with {saved}"
            ))),
            Err(failure) => verdict(&what, failure).map(Some),
        }
    };
    compare.boxed()
}

/// Restores the database and looks whether it is sound, and whether all it refers to is there.
async fn database(
    vault: &Vault,
    manifest: &Manifest,
    scratch: &Path,
) -> Result<Vec<String>, Failure> {
    let (what, file) = ("the database", scratch.join("rclaude.db"));
    let back = async {
        vault.restore_file(&manifest.database.snapshot, &file).await?;
        hash_file(&file).await
    };
    match back.await {
        Ok((_, hash)) if hash == manifest.database.sha256 => {}
        Ok(_) => return Ok(vec![format!("{what} came back as another file than was saved")]),
        Err(failure) => return verdict(what, failure).map(|damage| vec![damage]),
    }
    let store = match Store::open(&file).await {
        Ok(store) => store,
        Err(error) => return Ok(vec![format!("{what}: {error}")]),
    };
    let mut conn = store.read().await?;
    let mut damage: Vec<_> =
        carry::integrity(&mut conn).await?.iter().map(|line| format!("{what}: {line}")).collect();
    let saved: std::collections::HashSet<_> =
        manifest.layers.iter().map(|layer| &layer.layer).collect();
    for stack in checkpoint::stacks(&mut conn).await? {
        for layer in stack.layers.iter().filter(|layer| !saved.contains(layer)) {
            let (session, id) = (&stack.session, &stack.id);
            damage
                .push(format!("checkpoint {id} of {session}: layer {layer} is not in the backup"));
        }
    }
    drop(conn);
    store.close().await;
    Ok(damage)
}
