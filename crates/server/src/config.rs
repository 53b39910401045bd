//! What a server is told when it starts, and the files that make up its data directory.

use std::{
    ffi::OsString,
    fs, io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use url::Url;

use crate::{session::policy::Policy, snapshots::SnapshotOptions};

/// Everything `rclaude serve` can be told.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to let SSH clients in, if anywhere; port 0 takes a free one.
    pub ssh: Option<SocketAddr>,
    /// Where all state is kept.
    pub data_dir: PathBuf,
    /// Where model requests go.
    pub llm: LlmUpstream,
    /// Program and first arguments that start the local engine's supervisor.
    pub supervisor: Vec<OsString>,
    /// What `owner/name` means: a URL in which `{}` stands for it.
    pub forge: String,
    /// The URL of which the names of previews are subdomains; `http://localhost` with the port
    /// listened on where none is given.
    pub preview_url: Option<Url>,
    /// When sessions are set aside by themselves, and what is kept how often.
    pub policy: Policy,
    /// Where states outlive this machine's disk, and how often what is backed up.
    pub snapshots: SnapshotOptions,
    /// Bytes for a file system of the local engine's own, where the data directory's makes no
    /// snapshots; see `LocalConfig::image`.
    pub disk_image: Option<u64>,
}

/// Where model requests go, and what opens the door there.
#[derive(Clone)]
pub struct LlmUpstream {
    /// What to call it in `rclaude status`: `anthropic`, `emulator`, or the URL's host.
    pub name: String,
    /// Base URL of an API that speaks Anthropic's protocol.
    pub url: Url,
    /// The API key; without one every model request is refused with words that say so.
    pub api_key: Option<String>,
}

impl std::fmt::Debug for LlmUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmUpstream")
            .field("name", &self.name)
            .field("url", &self.url.as_str())
            .field("api_key", &self.api_key.as_ref().map(|_| "<redacted>"))
            .finish()
    }
}

/// The data directory, held by this process alone.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: fs::File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made or written.
    #[error("cannot use the data directory {path}: {source}; choose another with --data-dir")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error(
        "another server already uses {path}{pid}; stop it, or give this one its own --data-dir"
    )]
    Locked {
        /// Which.
        path: PathBuf,
        /// ` (process N)` where that is known.
        pid: String,
    },
}

impl DataDir {
    /// Makes the directory if need be (for its owner alone) and takes its lock, which the kernel
    /// gives back however this process ends.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => {
                let pid = ServerFile::read(&path)
                    .map_or_else(String::new, |file| format!(" (process {})", file.pid));
                Err(DataDirError::Locked { path, pid })
            }
            Err(fs::TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The server's secret, from which session tokens are derived; made on first use.
    pub fn secret(&self) -> io::Result<[u8; 32]> {
        let file = self.path.join("secret");
        if let Ok(bytes) = fs::read(&file) {
            return bytes.try_into().map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} is damaged; restore it from a backup", file.display()),
                )
            });
        }
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no randomness"))?;
        write_private(&file, &secret)?;
        Ok(secret)
    }
}

/// Writes a file that its owner alone may read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// `server.json`: how the CLI finds a server on the same host.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ServerFile {
    /// Base URL.
    pub url: Url,
    /// Its process.
    pub pid: u32,
    /// Where it lets SSH clients in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SocketAddr>,
}

impl ServerFile {
    const NAME: &str = "server.json";

    /// Reads it from a data directory; `None` if no server wrote one.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(data_dir.join(Self::NAME)).ok()?).ok()
    }

    /// Writes it.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        write_private(&data_dir.join(Self::NAME), &serde_json::to_vec(self)?)
    }

    /// Removes it.
    pub fn remove(data_dir: &Path) {
        let _ = fs::remove_file(data_dir.join(Self::NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_one_data_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::Locked { .. })));
        drop(first);
        assert!(DataDir::open(dir.path()).is_ok());
    }

    #[test]
    fn the_secret_stays_the_same_and_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(data.secret().unwrap(), data.secret().unwrap());
        let mode = fs::metadata(dir.path().join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let error = DataDir::open(Path::new("/proc/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere"), "{error}");
    }
}
