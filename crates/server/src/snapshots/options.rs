//! What the snapshot store is told.

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use rclaude_vault::Key;
pub use rclaude_vault::{Location, S3Access, Secret};

use super::keyring;

/// How often a backup is made where nothing else is said: to another machine.
const AWAY: Duration = Duration::from_mins(5);
/// The same to a directory that was named for backups.
const HERE: Duration = Duration::from_hours(1);

/// Where states outlive this machine's disk, and how often what is backed up.
#[derive(Debug, Clone, Default)]
pub struct SnapshotOptions {
    /// The server's own store; `snapshots` in the data directory if absent.
    pub location: Option<Location>,
    /// How to reach S3.
    pub access: S3Access,
    /// What stores are locked with in place of the keyring.
    pub passphrase: Option<Secret>,
    /// Where backups go; the server's own store if absent.
    pub backup_to: Option<Location>,
    /// How often one is made; zero: never by itself.
    pub backup_every: Option<Duration>,
    /// The largest archive that may be imported, in bytes; 64 GiB if absent.
    pub import_limit: Option<u64>,
}

impl SnapshotOptions {
    /// A place by its name, reached as all others are.
    pub(super) fn place(&self, text: &str) -> rclaude_vault::Result<Location> {
        Ok(text.parse::<Location>()?.with_access(self.access.clone()))
    }

    /// What opens the server's stores.
    pub(super) fn key(&self, data_dir: &Path) -> std::io::Result<Key> {
        match &self.passphrase {
            Some(passphrase) => Ok(Key::Passphrase(passphrase.clone())),
            None => keyring::load_or_make(data_dir).map(Key::Random),
        }
    }

    /// The largest archive that may be imported, in bytes.
    pub(super) fn largest_archive(&self) -> u64 {
        self.import_limit.unwrap_or(64 << 30)
    }

    /// How often a backup is made by itself.
    pub(super) fn every(&self, data_dir: &Path) -> Option<Duration> {
        let every = self.backup_every.or_else(|| {
            let place = self.backup_to.as_ref().or(self.location.as_ref())?;
            match (is_elsewhere(place, data_dir), &self.backup_to) {
                (true, _) => Some(AWAY),
                (false, Some(_)) => Some(HERE),
                (false, None) => None,
            }
        });
        every.filter(|every| !every.is_zero())
    }
}

/// Whether a store survives the disk that the data directory is on.
pub(super) fn is_elsewhere(place: &Location, data_dir: &Path) -> bool {
    let Location::Dir(path) = place else { return true };
    let device =
        |path: &Path| path.ancestors().find_map(|path| path.metadata().ok()).map(|meta| meta.dev());
    device(path) != device(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_come_by_themselves_where_they_help() {
        let dir = tempfile::tempdir().unwrap();
        let here: Location = dir.path().join("store").display().to_string().parse().unwrap();
        let away: Location = "s3://bucket/prefix".parse().unwrap();
        let every = |location, backup_to, backup_every| {
            let options =
                SnapshotOptions { location, backup_to, backup_every, ..SnapshotOptions::default() };
            options.every(dir.path())
        };
        assert_eq!(every(None, None, None), None);
        assert_eq!(every(Some(here.clone()), None, None), None, "the same disk");
        assert_eq!(every(Some(away.clone()), None, None), Some(AWAY));
        assert_eq!(every(None, Some(away.clone()), None), Some(AWAY));
        assert_eq!(every(None, Some(here), None), Some(HERE));
        assert_eq!(every(Some(away), None, Some(Duration::ZERO)), None, "told not to");
        assert_eq!(every(None, None, Some(AWAY)), Some(AWAY), "told to");
    }
}
