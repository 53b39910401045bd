//! What the engine is told when it is opened.

use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Settings of a [`LocalProvider`](super::LocalProvider).
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The engine's directory (`<data directory>/engine`); made if it is not there. One server
    /// at a time may use it.
    pub dir: PathBuf,
    /// The command that runs [`run_supervisor`](super::run_supervisor): program and leading
    /// arguments, to which `--dir <dir>` is added. For the product, the server's own executable
    /// and `__supervisor`.
    pub supervisor: Vec<OsString>,
    /// The daemon put into sandboxes; the embedded one if absent.
    pub agentd: Option<PathBuf>,
    /// How long a daemon that was asked to end may take before it is killed.
    pub stop_grace: Duration,
    /// Bytes for a file system of the engine's own (btrfs in a sparse file), made once where the
    /// directory's does not make snapshots. It is used as long as its file is there. None without.
    pub image: Option<u64>,
}

impl LocalConfig {
    /// The product's settings for an engine in `dir`, supervised by `executable`.
    pub fn new(dir: impl Into<PathBuf>, executable: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            supervisor: vec![executable.into().into_os_string(), "__supervisor".into()],
            agentd: None,
            stop_grace: Duration::from_secs(5),
            image: None,
        }
    }
}
