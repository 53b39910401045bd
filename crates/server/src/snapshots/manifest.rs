//! What a backup says of itself. Written last, so that whatever it names is there.

use std::{collections::BTreeMap, path::PathBuf};

use rclaude_store::checkpoint::LayerRow;
use rclaude_types::{Backup, ErrorCode, LayerId, Timestamp};
use rclaude_vault::{SnapshotId, Vault};
use serde::{Deserialize, Serialize};

use super::failure::Failure;

/// The newest format this program reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

/// What the names of manifests begin with among a vault's documents.
pub(super) const PREFIX: &str = "backup/";

/// A backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Sorts by time.
    pub(super) name: String,
    /// Which server's: it stays the same when the server is restored elsewhere.
    pub(super) server: String,
    /// Nobody asked for it: it goes when newer ones take its place.
    pub(super) scheduled: bool,
    pub(super) at: Timestamp,
    pub(super) host: String,
    pub(super) version: String,
    /// Where the data directory was; paths in the database begin with it.
    pub(super) data_dir: PathBuf,
    pub(super) sessions: u64,
    pub(super) database: SavedFile,
    pub(super) layers: Vec<SavedLayer>,
    /// Layers that the database refers to and that were nowhere to be found.
    #[serde(default)]
    pub(super) missing: Vec<LayerId>,
    pub(super) repositories: Vec<SavedRoom>,
    /// The server's secret and its owner's token.
    pub(super) secrets: Secrets,
    pub(super) added_bytes: u64,
    pub(super) millis: u64,
}

/// A file in the vault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedFile {
    pub(super) snapshot: SnapshotId,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// A layer in the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLayer {
    pub(super) layer: LayerId,
    pub(super) snapshot: SnapshotId,
    pub(super) digest: String,
    pub(super) bytes: u64,
}

impl SavedLayer {
    pub(super) fn row(&self) -> LayerRow {
        LayerRow {
            id: self.layer.clone(),
            snapshot: self.snapshot.to_string(),
            digest: self.digest.clone(),
            bytes: self.bytes,
        }
    }

    pub(super) fn of(row: &LayerRow) -> Result<Self, Failure> {
        let snapshot = row.snapshot.parse().map_err(|_| {
            Failure::Other(format!("{:?} names no snapshot: the database is damaged", row.snapshot))
        })?;
        let (layer, digest, bytes) = (row.id.clone(), row.digest.clone(), row.bytes);
        Ok(Self { layer, snapshot, digest, bytes })
    }
}

/// One repository's room in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedRoom {
    /// The room's name.
    pub(super) name: String,
    /// Small files in it.
    pub(super) files: BTreeMap<String, String>,
    /// Trees in it, by their path.
    pub(super) trees: BTreeMap<String, SavedTree>,
}

/// A tree in the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedTree {
    pub(super) snapshot: SnapshotId,
    pub(super) digest: String,
    /// What tells that it has not changed since, without reading it.
    pub(super) fingerprint: String,
}

/// What the server is known by.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Secrets {
    /// From which sessions' tokens are derived; hexadecimal.
    pub(super) secret: String,
    /// The owner's token.
    pub(super) token: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(<redacted>)")
    }
}

impl Manifest {
    /// As callers see it.
    pub(super) fn shown(&self, location: &str) -> Backup {
        Backup {
            name: self.name.clone(),
            location: location.to_owned(),
            at: self.at,
            sessions: self.sessions,
            layers: self.layers.len() as u64,
            added_bytes: self.added_bytes,
            millis: self.millis,
        }
    }

    /// Every snapshot that it needs.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = SnapshotId> {
        let layers = self.layers.iter().map(|layer| layer.snapshot);
        let trees = self.repositories.iter().flat_map(|room| room.trees.values());
        std::iter::once(self.database.snapshot).chain(layers).chain(trees.map(|tree| tree.snapshot))
    }

    /// Writes it: from here on there is a backup.
    pub(super) async fn put(&self, vault: &Vault) -> Result<(), Failure> {
        let text = serde_json::to_vec(self).map_err(|error| Failure::Other(error.to_string()))?;
        Ok(vault.put(&format!("{PREFIX}{}", self.name), text).await?)
    }
}

/// A backup by its name; `None` if there is none of that name.
pub(super) async fn get(vault: &Vault, name: &str) -> Result<Option<Manifest>, Failure> {
    let Some(text) = vault.get(&format!("{PREFIX}{name}")).await? else { return Ok(None) };
    read(&text).map(Some)
}

fn read(text: &[u8]) -> Result<Manifest, Failure> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let unreadable = |error: serde_json::Error| {
        Failure::refused(
            ErrorCode::SnapshotsUnavailable,
            format!("the backup's manifest cannot be read: {error}"),
        )
    };
    let Format { format } = serde_json::from_slice(text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(Failure::refused(
            ErrorCode::ArchiveTooNew,
            format!(
                "the backup has format {format}, this program reads up to {FORMAT}: use the newer \
                 program"
            ),
        ));
    }
    serde_json::from_slice(text).map_err(unreadable)
}

/// All backups in a vault, oldest first. One that is removed meanwhile is not among them.
pub(super) async fn all(vault: &Vault) -> Result<Vec<Manifest>, Failure> {
    let mut found = Vec::new();
    for document in vault.documents(PREFIX).await? {
        let name = document.name.strip_prefix(PREFIX).unwrap_or_default();
        found.extend(get(vault, name).await?);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The backup that is asked for, or the newest.
pub(super) async fn find(vault: &Vault, name: Option<&str>) -> Result<Manifest, Failure> {
    let location = vault.location();
    if let Some(name) = name {
        return get(vault, name).await?.ok_or_else(|| {
            Failure::refused(
                ErrorCode::BackupNotFound,
                format!(
                    "there is no backup {name:?} at {location}; `rclaude backup ls` lists them"
                ),
            )
        });
    }
    let documents = vault.documents(PREFIX).await?;
    for document in documents.iter().rev() {
        let name = document.name.strip_prefix(PREFIX).unwrap_or_default();
        if let Some(manifest) = get(vault, name).await? {
            return Ok(manifest);
        }
    }
    let text = format!("there is no backup at {location}; `rclaude backup` makes one");
    Err(Failure::refused(ErrorCode::BackupNotFound, text))
}

/// The scheduled backups that newer ones took the place of: all of the last hour stay, then one an
/// hour for a day, one a day for a month, and always the newest. `of` are one server's, oldest
/// first.
pub(super) fn outdated(of: &[(String, Timestamp)], now: Timestamp) -> Vec<String> {
    const HOUR: i64 = 60 * 60 * 1_000_000;
    let mut last_kept = None;
    let mut gone = Vec::new();
    for (name, at) in of.iter().rev() {
        let age = now.as_micros().saturating_sub(at.as_micros());
        let slot = match age {
            age if age < HOUR => None,
            age if age < 24 * HOUR => Some((1, at.as_micros().div_euclid(HOUR))),
            age if age < 30 * 24 * HOUR => Some((24, at.as_micros().div_euclid(24 * HOUR))),
            _ => Some((0, 0)),
        };
        let kept = match slot {
            None => true,
            // Too old, unless it is all there is.
            Some((0, _)) => last_kept.is_none(),
            Some(slot) => last_kept != Some(Some(slot)),
        };
        if kept {
            last_kept = Some(slot);
        } else {
            gone.push(name.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1_000_000;

    fn outdated_at(ages: &[i64]) -> Vec<i64> {
        let now = 100 * 24 * 60 * MINUTE;
        let named = |age: &i64| (age.to_string(), Timestamp::from_micros(now - age * MINUTE));
        let mut of: Vec<_> = ages.iter().map(named).collect();
        of.reverse();
        let gone = outdated(&of, Timestamp::from_micros(now));
        gone.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn all_of_the_last_hour_stay_then_one_an_hour_then_one_a_day() {
        assert_eq!(outdated_at(&[0, 5, 10, 55]), Vec::<i64>::new());
        // Two of one hour of the clock; the newer stays.
        assert_eq!(outdated_at(&[5, 121, 126, 131, 181]), vec![126, 131]);
        let day = 24 * 60;
        assert_eq!(outdated_at(&[5, 2 * day + 10, 2 * day + 20, 3 * day + 30]), vec![2 * day + 20]);
        assert_eq!(outdated_at(&[5, 40 * day]), vec![40 * day]);
    }

    #[test]
    fn the_newest_stays_however_old_it_is() {
        assert_eq!(outdated_at(&[50 * 24 * 60, 60 * 24 * 60]), vec![60 * 24 * 60]);
        assert_eq!(outdated_at(&[50 * 24 * 60]), Vec::<i64>::new());
    }
}
