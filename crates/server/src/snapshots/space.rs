//! What sessions take up, and giving room back.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    time::Duration,
};

use rclaude_sandbox::provider::SandboxRef;
use rclaude_store::{checkpoint, sandbox, session};
use rclaude_types::{
    CheckpointId, DiskUse, ErrorCode, LayerId, Phase, Problem, Prune, Pruned, SessionDiskUse,
    SessionId, Timestamp,
};
use rclaude_vault::{Content, Snapshot, SnapshotId};

use super::{Snapshots, backup, failure::Failure, manifest};
use crate::{
    repo::Checkout,
    session::{engine::Engine, sweep::idle_layers},
};

/// Automatic checkpoints this old go unless something else is said.
const OLD: Duration = Duration::from_hours(24 * 30);
/// What nothing in the store refers to stays there for so long: longer than any save takes.
const GRACE: Duration = Duration::from_hours(24);
/// A checkout handed out this lately may belong to a session that is being made.
const FRESH: Duration = Duration::from_mins(10);

/// What a server's sessions take up.
pub(crate) async fn disk_use(engine: &Engine) -> Result<DiskUse, Problem> {
    Ok(engine.snapshots.disk_use(engine).await?)
}

/// Drops what is not needed any more, or says what would be dropped.
pub(crate) async fn prune(engine: &Engine, request: Prune) -> Result<Pruned, Problem> {
    Ok(engine.snapshots.prune(engine, request).await?)
}

impl Snapshots {
    async fn disk_use(&self, engine: &Engine) -> Result<DiskUse, Failure> {
        let inner = &*self.0;
        let mut conn = inner.store.read().await?;
        let live = session::list_live(&mut conn).await?;
        let stacks = checkpoint::stacks(&mut conn).await?;
        let mut sandboxes = HashMap::new();
        for row in &live {
            sandboxes.insert(row.id.clone(), sandbox::current(&mut conn, &row.id).await?);
        }
        drop(conn);
        let layering = inner.provider.layering();
        let sizes: HashMap<LayerId, u64> = match layering {
            Some(layering) => layering.layers(true).await?.into_iter().collect(),
            None => HashMap::new(),
        };
        let mut holders: HashMap<&LayerId, HashSet<&SessionId>> = HashMap::new();
        for stack in &stacks {
            for layer in &stack.layers {
                holders.entry(layer).or_default().insert(&stack.session);
            }
        }
        let mut sessions = Vec::new();
        for row in &live {
            let on_disk = sandboxes.get(&row.id).filter(|sandbox| {
                !matches!(
                    sandbox.phase,
                    Phase::Pending | Phase::Archived | Phase::Destroyed | Phase::Failed(_)
                )
            });
            let reference = on_disk.and_then(|sandbox| sandbox.provider_ref.clone());
            let disk = match (layering, reference) {
                (Some(layering), Some(reference)) => {
                    // One that is on its way up or down.
                    layering.disk_bytes(&SandboxRef(reference)).await.unwrap_or(0)
                }
                _ => 0,
            };
            let own = holders
                .iter()
                .filter(|(_, of)| of.len() == 1 && of.contains(&row.id))
                .filter_map(|(layer, _)| sizes.get(*layer));
            let count = stacks.iter().filter(|stack| stack.session == row.id).count();
            sessions.push(SessionDiskUse {
                session: row.id.clone(),
                name: row.name.clone(),
                disk,
                checkpoints: own.sum(),
                checkpoint_count: u32::try_from(count).unwrap_or(u32::MAX),
            });
        }
        sessions.sort_by(|a, b| {
            (b.disk + b.checkpoints).cmp(&(a.disk + a.checkpoints)).then(b.session.cmp(&a.session))
        });
        let (repos, data_dir) = (engine.repos.dir().to_owned(), inner.data_dir.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let disk = rustix::fs::statvfs(&data_dir)?;
            let database = ["rclaude.db", "rclaude.db-wal"];
            let database = database.iter().filter_map(|name| data_dir.join(name).metadata().ok());
            Ok::<_, io::Error>((
                bytes_under(&repos)?,
                database.map(|meta| meta.len()).sum(),
                disk.f_bavail.saturating_mul(disk.f_frsize),
            ))
        });
        let looked = looked.await.map_err(|error| Failure::Other(error.to_string()))?;
        let (repositories, database, free) =
            looked.map_err(Failure::disk("looking at the disk"))?;
        let size = async { Ok(inner.own.vault().await?.size().await?) };
        let size: Result<u64, Failure> = size.await;
        inner.own.note(&size);
        Ok(DiskUse {
            sessions,
            layers: sizes.values().sum(),
            repositories,
            // Not to be had now: `rclaude status` says so.
            snapshots: size.unwrap_or(0),
            database,
            free,
        })
    }

    async fn prune(&self, engine: &Engine, request: Prune) -> Result<Pruned, Failure> {
        // Nobody may rely on what is about to go, nor save what is about to be forgotten.
        let busy = || {
            Failure::refused(
                ErrorCode::Conflict,
                "layers are being saved, restored or backed up: try again when that is done",
            )
        };
        let _alone = self.alone().await.ok_or_else(busy)?;
        let inner = &*self.0;
        let saving = tokio::time::timeout(super::COMING, inner.saving.write()).await;
        let _nobody_saves = saving.map_err(|_| busy())?;
        let older = request.older_than_seconds.map_or(OLD, Duration::from_secs);
        let (gone, live) = self.outdated(older).await?;
        if !request.dry_run {
            let ids = gone.clone();
            let write = inner.store.write(async move |tx| {
                for id in &ids {
                    checkpoint::remove(tx, id).await?;
                }
                Ok(())
            });
            write.await?;
        }
        let idle = idle_layers(engine, &live, &gone).await.map_err(Failure::Other)?;
        let mut bytes = 0;
        if let Some(layering) = inner.provider.layering() {
            let sizes: HashMap<LayerId, u64> = layering.layers(true).await?.into_iter().collect();
            for layer in &idle {
                bytes += sizes.get(layer).copied().unwrap_or(0);
                if !request.dry_run {
                    layering.remove_layer(layer).await?;
                }
            }
        }
        let pruned = self.prune_store(&gone, request.dry_run).await;
        inner.own.note(&pruned);
        let snapshot_bytes = pruned?;
        if !request.dry_run {
            let in_use = live.iter().filter_map(|row| row.checkout.clone());
            let in_use = in_use.filter_map(|row| serde_json::from_value::<Checkout>(row).ok());
            let in_use: Vec<_> = in_use.collect();
            let since = inner.clock.now().as_micros() - micros(FRESH);
            let pruned = engine.repos.prune(&in_use, Timestamp::from_micros(since)).await;
            pruned.map_err(|error| Failure::Other(error.to_string()))?;
        }
        Ok(Pruned {
            checkpoints: gone.len() as u64,
            layers: idle.len() as u64,
            bytes,
            snapshot_bytes,
            dry_run: request.dry_run,
        })
    }

    /// The automatic checkpoints that are older, but for each session's newest and those that a
    /// rewind is about to go back to; and the sessions there are.
    async fn outdated(
        &self,
        older: Duration,
    ) -> Result<(HashSet<CheckpointId>, Vec<session::SessionRow>), Failure> {
        let mut conn = self.0.store.read().await?;
        let live = session::list_live(&mut conn).await?;
        let kept: HashSet<_> = checkpoint::rewound_to(&mut conn).await?.into_iter().collect();
        let until = self.0.clock.now().as_micros() - micros(older);
        let mut gone = HashSet::new();
        for row in &live {
            let newest = checkpoint::latest(&mut conn, &row.id).await?;
            let newest = newest.map(|row| row.checkpoint.id);
            for found in checkpoint::surplus(&mut conn, &row.id, 0).await? {
                let checkpoint = found.checkpoint;
                if checkpoint.created_at.as_micros() < until
                    && newest.as_ref() != Some(&checkpoint.id)
                    && !kept.contains(&checkpoint.id)
                {
                    gone.insert(checkpoint.id);
                }
            }
        }
        Ok((gone, live))
    }

    /// Forgets what is in the server's own store and nothing needs: neither a row, as if the
    /// checkpoints `gone` were gone, nor a backup. What others keep there is left alone.
    async fn prune_store(
        &self,
        gone: &HashSet<CheckpointId>,
        dry_run: bool,
    ) -> Result<u64, Failure> {
        let inner = &*self.0;
        let vault = inner.own.vault().await?;
        let server = self.server().await?;
        let mut conn = inner.store.read().await?;
        let mut wanted: HashSet<LayerId> =
            sandbox::layers_in_use(&mut conn).await?.into_iter().collect();
        for stack in checkpoint::stacks(&mut conn).await? {
            if !gone.contains(&stack.id) {
                wanted.extend(stack.layers);
            }
        }
        let rows = checkpoint::stored_layers(&mut conn).await?;
        let (kept, unneeded): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| wanted.contains(&row.id));
        let mut needed: HashSet<SnapshotId> =
            kept.iter().filter_map(|row| row.snapshot.parse().ok()).collect();
        for backup in manifest::all(&vault).await? {
            needed.extend(backup.snapshots());
        }
        let mut forget = Vec::new();
        for snapshot in vault.list().await? {
            if !needed.contains(&snapshot.id) && is_ours(&mut conn, &snapshot, &server).await? {
                forget.push(snapshot);
            }
        }
        drop(conn);
        let bytes = forget.iter().map(|snapshot| snapshot.added_bytes).sum();
        if !dry_run {
            // First what says that it is there, then what is there.
            let write = inner.store.write(async move |tx| {
                for row in &unneeded {
                    checkpoint::remove_layer(tx, &row.id).await?;
                }
                Ok(())
            });
            write.await?;
            let ids: Vec<_> = forget.iter().map(|snapshot| snapshot.id).collect();
            vault.forget(&ids).await?;
            vault.prune(GRACE).await?;
        }
        Ok(bytes)
    }
}

/// Whether a snapshot was saved by this server: a store may be shared with others.
async fn is_ours(
    conn: &mut rclaude_store::Conn,
    snapshot: &Snapshot,
    server: &str,
) -> Result<bool, Failure> {
    if let Ok(id) = snapshot.label.parse::<SessionId>() {
        return match session::get(conn, &id).await {
            Ok(_) => Ok(snapshot.content == Content::Tree),
            Err(rclaude_store::StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        };
    }
    let of = snapshot
        .label
        .strip_prefix(backup::DATABASE)
        .or_else(|| snapshot.label.strip_prefix(backup::REPOSITORY)?.split('/').next());
    Ok(of == Some(server))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// What a directory's files take up.
fn bytes_under(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut todo) = (0, vec![dir.to_owned()]);
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            // What is being worked on comes and goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) => bytes += meta.blocks() * 512,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}
