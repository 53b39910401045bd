//! Room for what is under way: `scratch` in the data directory. What a killed server left there is
//! cleared away when the next one first needs some.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Once,
};

use tempfile::TempDir;

#[derive(Debug)]
pub(super) struct Scratch {
    dir: PathBuf,
    cleared: Once,
}

impl Scratch {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("scratch"), cleared: Once::new() }
    }

    /// An empty directory of one's own, gone when it is dropped.
    pub(super) fn make(&self, purpose: &str) -> io::Result<TempDir> {
        self.clear();
        fs::create_dir_all(&self.dir)?;
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        tempfile::Builder::new().prefix(&format!("{purpose}-")).tempdir_in(&self.dir)
    }

    /// Removes what is left of an earlier run. Only the first call does anything.
    pub(super) fn clear(&self) {
        self.cleared.call_once(|| match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(dir = %self.dir.display(), %error, "cannot clear the scratch room");
            }
            _ => {}
        });
    }
}
