//! Where the engine keeps what.
//!
//! ```text
//! engine/
//!   supervisor.sock  supervisor.lock  supervisor.log
//!   agentd-<hash>            the daemon, executable, never changed
//!   mnt/                     empty; each sandbox mounts its scaffolding here, seen by it alone
//!   templates/host-<hash>/   skeletons
//!   trash/                   directories on their way out
//!   sandboxes/<sandbox id>/
//!     upper/ work/           the writable disk; owners as the sandbox sees them
//!     spec.json              what was asked for; there once the disk is complete
//!     state.json             what runs; written before the sandbox takes its first step
//!     agentd.sock            where its daemon listens
//! ```

use std::path::{Path, PathBuf};

use rclaude_types::SandboxId;

/// The engine's directory.
#[derive(Debug, Clone)]
pub(super) struct EngineDir(PathBuf);

impl EngineDir {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn supervisor_socket(&self) -> PathBuf {
        self.0.join("supervisor.sock")
    }

    pub(super) fn supervisor_lock(&self) -> PathBuf {
        self.0.join("supervisor.lock")
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    pub(super) fn scaffold(&self) -> PathBuf {
        self.0.join("mnt")
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.0.join("trash")
    }

    pub(super) fn sandboxes(&self) -> PathBuf {
        self.0.join("sandboxes")
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> SandboxDir {
        SandboxDir(self.sandboxes().join(id.as_str()))
    }

    /// The sandboxes that have a directory, complete or not.
    pub(super) fn sandbox_ids(&self) -> std::io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(self.sandboxes())? {
            if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

/// One sandbox's directory.
#[derive(Debug, Clone)]
pub(super) struct SandboxDir(PathBuf);

impl SandboxDir {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(super) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }
}

/// File name of the daemon's socket in a sandbox's directory.
pub(super) const AGENTD_SOCKET: &str = "agentd.sock";
