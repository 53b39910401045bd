//! A session made of an archive. Nothing in the file is believed: it is unpacked within bounds,
//! opened with the caller's key, and every tree compared with its digest before anything of it
//! becomes a session. Until then there are layers that no row speaks of, which are the sweep's.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use rclaude_sandbox::provider::Layering;
use rclaude_store::carry::CarriedTurn;
use rclaude_types::{ErrorCode, Event, LayerId, Origin, Problem, Session};
use rclaude_vault::{Key, Location, Secret, SnapshotId, Vault, VaultError, archive};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::{
    Snapshots,
    carried::{Carried, DOCUMENT, FORMAT, Part},
    failure::Failure,
    keeping::{digest, few},
    keyring,
};
use crate::{
    repo::Checkout,
    session::manager::{Idempotency, SessionManager, carried::Adopted},
};

/// The longest history, in bytes.
const LONGEST_HISTORY: u64 = 1 << 30;

/// What opens an archive.
#[derive(Debug, Clone)]
pub(crate) enum ArchiveKey {
    Passphrase(Secret),
    Random([u8; 32]),
}

impl ArchiveKey {
    /// A key as an export gave it: 64 hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        keyring::parse_hex(text).map(Self::Random)
    }
}

/// A request to import.
pub(crate) struct Import {
    pub(crate) name: Option<String>,
    pub(crate) key: ArchiveKey,
    /// The request's idempotency key.
    pub(crate) once: Option<String>,
    pub(crate) archive: BoxStream<'static, io::Result<bytes::Bytes>>,
}

impl Snapshots {
    /// Makes a session of an archive.
    pub(crate) async fn import(
        &self,
        sessions: &SessionManager,
        import: Import,
    ) -> Result<Session, Problem> {
        let Import { name, key, once, archive } = import;
        let scratch = self.0.scratch.make("import").map_err(Failure::disk("making room"))?;
        let file = scratch.path().join("archive");
        let hash = self.receive(archive, &file).await?;
        let once =
            once.map(|key| Idempotency { key, digest: request_digest(name.as_deref(), &hash) });
        let _held = self.hold().await;
        let (mut session, stack) =
            self.take_apart(&file, &scratch.path().join("vault"), key).await?;
        session.name = name.or(session.name);
        session.stack = stack;
        sessions.adopt(session, once).await
    }

    /// Writes the archive to a file; its SHA-256.
    async fn receive(
        &self,
        mut archive: BoxStream<'static, io::Result<bytes::Bytes>>,
        file: &Path,
    ) -> Result<[u8; 32], Failure> {
        let writing = || Failure::disk("writing the archive");
        let mut out = tokio::fs::File::create_new(file).await.map_err(writing())?;
        let (mut hash, mut length) = (Sha256::new(), 0);
        while let Some(chunk) = archive.next().await {
            let chunk = chunk.map_err(|error| {
                Failure::refused(ErrorCode::InvalidRequest, format!("the body broke off: {error}"))
            })?;
            length += chunk.len() as u64;
            if length > self.0.options.largest_archive() {
                let most = self.0.options.largest_archive();
                return Err(Failure::refused(
                    ErrorCode::TooLarge,
                    format!("an archive may have {most} bytes here, no more"),
                ));
            }
            hash.update(&chunk);
            out.write_all(&chunk).await.map_err(writing())?;
        }
        out.flush().await.map_err(writing())?;
        Ok(hash.finalize().into())
    }

    /// Reads all of an archive, and brings its files into the engine under new names.
    async fn take_apart(
        &self,
        file: &Path,
        place: &Path,
        key: ArchiveKey,
    ) -> Result<(Adopted, Vec<LayerId>), Failure> {
        let (from, into, limit) =
            (file.to_owned(), place.to_owned(), self.0.options.largest_archive());
        let unpack = tokio::task::spawn_blocking(move || {
            let opened = fs::File::open(&from).map_err(Failure::disk("reading the archive"))?;
            let header = archive::unpack(io::BufReader::new(opened), &into, limit)?;
            // It is twice on the disk by now.
            let _ = fs::remove_file(&from);
            Ok::<_, Failure>(header)
        });
        let unpacked = unpack.await.map_err(|error| Failure::Other(error.to_string()))?;
        let header = unpacked.map_err(bad)?;
        let locked_with = header["locked_with"].as_str().unwrap_or_default();
        let key = match (key, locked_with) {
            (ArchiveKey::Random(_), "passphrase") => return Err(wrong_key("a passphrase")),
            (ArchiveKey::Passphrase(_), "key") => return Err(wrong_key("a key")),
            (ArchiveKey::Random(key), _) => Key::Random(key),
            (ArchiveKey::Passphrase(passphrase), _) => Key::Passphrase(passphrase),
        };
        let vault = Vault::open(&Location::Dir(place.to_owned()), &key).await;
        let vault = vault.map_err(|error| match error {
            VaultError::WrongKey { .. } => {
                Failure::refused(ErrorCode::WrongKey, "this key does not open the archive")
            }
            error => bad(error.into()),
        })?;
        let carried = document(&vault).await?;
        self.room_for(&vault).await?;
        let scratch = place.parent().unwrap_or(place);
        let turns: Vec<CarriedTurn> = lines(&vault, &carried.turns, &scratch.join("turns")).await?;
        let log: Vec<Event> = lines(&vault, &carried.log, &scratch.join("log")).await?;
        let session = adopted(&carried, turns, log)?;
        let stack = self.bring_in(&vault, &carried.stack).await?;
        Ok((session, stack))
    }

    /// Refuses what does not fit on the disk, before the disk is full of it.
    async fn room_for(&self, vault: &Vault) -> Result<(), Failure> {
        let all = vault.list().await.map_err(|error| bad(error.into()))?;
        let needed = all.iter().fold(0_u64, |sum, one| sum.saturating_add(one.total_bytes));
        let disk = rustix::fs::statvfs(&self.0.data_dir).map_err(io::Error::from);
        let disk = disk.map_err(Failure::disk("looking at the disk"))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed > free {
            return Err(Failure::refused(
                ErrorCode::DiskFull,
                format!("the session's files take {needed} bytes, and {free} are free"),
            ));
        }
        Ok(())
    }

    async fn bring_in(&self, vault: &Vault, parts: &[Part]) -> Result<Vec<LayerId>, Failure> {
        if self.0.provider.layering().is_none() {
            let text = "this provider cannot keep states of a sandbox";
            return Err(Failure::refused(ErrorCode::HostUnsupported, text));
        }
        let work = parts.iter().cloned().map(|part| {
            let (this, vault) = (self.clone(), vault.clone());
            let bring = async move {
                let layer = LayerId::generate();
                let layering = this.0.provider.layering();
                let Some(layering) = layering else { return Ok(layer) };
                let brought = bring_part(layering, &vault, &part, &layer).await;
                if brought.is_err() {
                    let _ = layering.remove_layer(&layer).await;
                }
                brought.map(|()| layer)
            };
            futures::FutureExt::boxed(bring)
        });
        few(work.collect()).await
    }
}

async fn bring_part(
    layering: &dyn Layering,
    vault: &Vault,
    part: &Part,
    layer: &LayerId,
) -> Result<(), Failure> {
    let draft = layering.draft(layer).await?;
    let tree = match &part.inside {
        None => draft,
        Some(inside) => {
            let ordinary = |part| matches!(part, std::path::Component::Normal(_));
            if !inside.components().all(ordinary) {
                return Err(invalid(format!("{} is no place in a layer", inside.display())));
            }
            let mut tree = draft;
            for part in inside {
                tree.push(part);
                let make = fs::create_dir(&tree)
                    .and_then(|()| fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)));
                make.map_err(Failure::disk("making a layer"))?;
            }
            tree
        }
    };
    vault.restore(&part.snapshot, &tree).await.map_err(|error| bad(error.into()))?;
    if digest(tree).await?.to_string() != part.digest {
        return Err(invalid("its files are not those that were exported"));
    }
    Ok(layering.finish(layer).await?)
}

async fn document(vault: &Vault) -> Result<Carried, Failure> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let text = vault.get(DOCUMENT).await.map_err(|error| bad(error.into()))?;
    let text = text.ok_or_else(|| invalid("it holds no session"))?;
    let unreadable = |error: serde_json::Error| invalid(format!("its session: {error}"));
    let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(Failure::refused(
            ErrorCode::ArchiveTooNew,
            format!(
                "the session in the archive has format {format}, this program reads up to \
                 {FORMAT}: use the newer program"
            ),
        ));
    }
    serde_json::from_slice(&text).map_err(unreadable)
}

/// A file of JSON objects, one a line.
async fn lines<T: DeserializeOwned + Send + 'static>(
    vault: &Vault,
    id: &SnapshotId,
    file: &Path,
) -> Result<Vec<T>, Failure> {
    let listed = vault.list().await.map_err(|error| bad(error.into()))?;
    let length = listed.iter().find(|one| one.id == *id).map_or(0, |one| one.total_bytes);
    if length > LONGEST_HISTORY {
        return Err(Failure::refused(ErrorCode::TooLarge, "the session's history is too long"));
    }
    vault.restore_file(id, file).await.map_err(|error| bad(error.into()))?;
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        use io::BufRead;
        let opened = fs::File::open(&file).map_err(Failure::disk("reading the history"))?;
        let read = |line: io::Result<String>| {
            let line = line.map_err(Failure::disk("reading the history"))?;
            serde_json::from_str(&line).map_err(|error| invalid(format!("its history: {error}")))
        };
        io::BufReader::new(opened).lines().map(read).collect()
    });
    read.await.map_err(|error| Failure::Other(error.to_string()))?
}

/// What becomes of it here: nothing of the old host is needed any more.
fn adopted(
    carried: &Carried,
    turns: Vec<CarriedTurn>,
    log: Vec<Event>,
) -> Result<Adopted, Failure> {
    let Carried { settings, conversation, base_commit, branch, .. } = carried.clone();
    let word = |text: &String| {
        !text.is_empty()
            && text.len() <= 128
            && !text.starts_with('-')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
    };
    if !conversation.as_ref().is_none_or(word) {
        return Err(invalid("its conversation has no proper name"));
    }
    let checkout = settings.repository.as_ref().map(|_| Checkout {
        base_commit,
        branch: branch.unwrap_or_default(),
        base_branch: carried.base_branch.clone(),
        default_branch: carried.default_branch.clone(),
        layers: Vec::new(),
        binds: Vec::new(),
        files: Vec::new(),
        notices: Vec::new(),
    });
    Ok(Adopted {
        name: None,
        suggested: carried.name.clone(),
        origin: Origin { session: carried.session.clone(), checkpoint: carried.checkpoint.clone() },
        exported_at: carried.at,
        settings,
        conversation,
        checkout,
        method: carried.method,
        turn: carried.turn.clone(),
        turns,
        log,
        stack: Vec::new(),
    })
}

/// A vault's failure while an archive is read is the archive's, unless it is the disk's.
fn bad(failure: Failure) -> Failure {
    match failure {
        Failure::Vault(
            error @ (VaultError::Damaged { .. }
            | VaultError::NoSuchSnapshot { .. }
            | VaultError::NotAVault { .. }),
        ) => invalid(error.to_string()),
        Failure::Vault(VaultError::Invalid(text)) if text.contains("are allowed here") => {
            Failure::refused(ErrorCode::TooLarge, text)
        }
        Failure::Vault(VaultError::Storage { path, source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            invalid(format!("{path} is missing"))
        }
        other => other,
    }
}

fn invalid(why: impl std::fmt::Display) -> Failure {
    Failure::refused(ErrorCode::ArchiveInvalid, format!("the archive cannot be used: {why}"))
}

fn wrong_key(with: &str) -> Failure {
    let text = format!("the archive was locked with {with}: give that");
    Failure::refused(ErrorCode::WrongKey, text)
}

fn request_digest(name: Option<&str>, hash: &[u8; 32]) -> [u8; 32] {
    let name = name.unwrap_or_default();
    Sha256::new().chain_update("import\0").chain_update(name).chain_update(hash).finalize().into()
}

/// A body as bytes.
pub(crate) fn bytes(body: axum::body::Body) -> BoxStream<'static, io::Result<bytes::Bytes>> {
    body.into_data_stream().map_err(io::Error::other).boxed()
}
