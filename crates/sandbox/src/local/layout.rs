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
//!     disk/                  on btrfs, in their place: a subvolume that holds `upper` and `work`
//!   layers/<layer id>/       complete and never changed; `<layer id>.draft/` is neither yet
//!     tree/                  what it shows, relative to the root; owners as a sandbox sees them
//!     disk/                  in its place, a snapshot of a sandbox's `disk` (its `upper` shows)
//!     index                  of all that was in the `upper` it was taken of; not with all
//!     unwritten              there until the host's disk has all of it
//!   disk.img  disk/          a file system of the engine's own (btrfs), where it has one, and
//!                            where it is mounted: `sandboxes`, `layers` and `trash` are in it
//! ```

use std::{
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
};

use rclaude_types::{LayerId, SandboxId};

/// The engine's directory.
#[derive(Debug, Clone)]
pub(super) struct EngineDir {
    dir: PathBuf,
    /// Where new sandboxes and layers are made: the directory itself, or the file system in it.
    home: PathBuf,
}

impl EngineDir {
    /// Looks where things are. The file system in the directory must be mounted by now.
    pub(super) fn new(dir: &Path) -> Self {
        let inner = dir.join("disk");
        let home = if inner.join("sandboxes").exists() { inner } else { dir.to_owned() };
        Self { dir: dir.to_owned(), home }
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// The roots under which there may be sandboxes and layers: those from before the engine had
    /// a file system of its own stay where they are.
    fn roots(&self) -> impl Iterator<Item = &Path> {
        let second = (self.home != self.dir).then_some(self.dir.as_path());
        std::iter::once(self.home.as_path()).chain(second)
    }

    /// What is called so in one of the roots, or would be.
    fn find(&self, kind: &str, name: &str) -> PathBuf {
        let paths = self.roots().map(|root| root.join(kind).join(name));
        let mut found = paths.filter(|path| path.exists());
        found.next().unwrap_or_else(|| self.home.join(kind).join(name))
    }

    fn entries(&self, kind: &str) -> io::Result<Vec<DirEntry>> {
        let mut all = Vec::new();
        for root in self.roots() {
            for entry in fs::read_dir(root.join(kind))? {
                all.push(entry?);
            }
        }
        Ok(all)
    }

    pub(super) fn supervisor_socket(&self) -> PathBuf {
        self.dir.join("supervisor.sock")
    }

    pub(super) fn supervisor_lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    pub(super) fn scaffold(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.dir.join("templates")
    }

    /// Directories that must be there, wherever things are.
    pub(super) fn shelves(&self) -> Vec<PathBuf> {
        let kinds = ["sandboxes", "layers", "trash"];
        self.roots().flat_map(|root| kinds.map(|kind| root.join(kind))).collect()
    }

    /// Where something of the engine's goes on its way out: on the same file system, under a name
    /// that nothing there has.
    pub(super) fn trash_for(&self, path: &Path) -> PathBuf {
        let root = path.ancestors().nth(2).unwrap_or(&self.home);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let names = (0_u32..).map(|number| match number {
            0 => name.to_string(),
            number => format!("{name}.{number}"),
        });
        let mut paths = names.map(|name| root.join("trash").join(name));
        paths.find(|path| !path.exists()).expect("some number is free")
    }

    pub(super) fn trash_entries(&self) -> io::Result<Vec<DirEntry>> {
        self.entries("trash")
    }

    pub(super) fn sandbox(&self, id: &SandboxId) -> SandboxDir {
        SandboxDir(self.find("sandboxes", id.as_str()))
    }

    /// The sandboxes that have a directory, complete or not.
    pub(super) fn sandbox_ids(&self) -> io::Result<Vec<SandboxId>> {
        let names = self.entries("sandboxes")?.into_iter().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    pub(super) fn layer(&self, id: &LayerId) -> LayerDir {
        LayerDir(self.find("layers", id.as_str()))
    }

    /// Layers and drafts.
    pub(super) fn layer_entries(&self) -> io::Result<Vec<DirEntry>> {
        self.entries("layers")
    }

    /// Where new ones are made.
    pub(super) fn new_layers(&self) -> PathBuf {
        self.home.join("layers")
    }
}

/// One layer's directory, or a draft's.
#[derive(Debug, Clone)]
pub(super) struct LayerDir(PathBuf);

impl LayerDir {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What it shows.
    pub(super) fn tree(&self) -> PathBuf {
        let snapshot = self.0.join("disk");
        if snapshot.exists() { snapshot.join("upper") } else { self.0.join("tree") }
    }

    pub(super) fn index(&self) -> PathBuf {
        self.0.join("index")
    }
}

/// One sandbox's directory.
#[derive(Debug, Clone)]
pub(super) struct SandboxDir(PathBuf);

impl SandboxDir {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What is to be sealed with one snapshot, where that can be done.
    pub(super) fn subvolume(&self) -> PathBuf {
        self.0.join("disk")
    }

    pub(super) fn is_subvolume(&self) -> bool {
        self.subvolume().exists()
    }

    /// Holds `upper` and `work`.
    pub(super) fn disk(&self) -> PathBuf {
        if self.is_subvolume() { self.subvolume() } else { self.0.clone() }
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.disk().join("work")
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
