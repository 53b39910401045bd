//! A sandbox's directory, from nothing to complete.
//!
//! The directory itself says that a sandbox was wanted; `spec.json`, written last, that its disk
//! is complete. Whoever finds the one without the other was interrupted, and begins again.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Component, Path, PathBuf},
};

use super::{
    layout::SandboxDir,
    record::{self, StoredSpec},
    remove::remove_tree,
    template::{give, is_root},
};
use crate::provider::SeedFile;

/// Makes the directory complete, unless it is.
pub(super) fn prepare(dir: &SandboxDir, spec: &StoredSpec, files: &[SeedFile]) -> io::Result<()> {
    if record::read::<StoredSpec>(&dir.spec())?.is_some() {
        return Ok(());
    }
    match fs::create_dir(dir.path()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_tree(dir.path())?;
            fs::create_dir(dir.path())?;
        }
        other => other?,
    }
    make_dir(&dir.upper(), 0o755)?;
    make_dir(&dir.work(), 0o755)?;
    let below: Vec<_> = spec.layers.iter().chain([&spec.skeleton]).map(PathBuf::as_path).collect();
    for file in files {
        place(&dir.upper(), &below, file)?;
    }
    record::write(&dir.spec(), spec)
}

/// Puts a file in place. A directory made here covers the one of the layers below in everything
/// but its entries, so it takes over owner and mode.
fn place(upper: &Path, below: &[&Path], file: &SeedFile) -> io::Result<()> {
    let inside = file.path.strip_prefix("/").map_err(|_| invalid(&file.path))?;
    let mut at = PathBuf::new();
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(invalid(&file.path)) };
        at.push(name);
        let target = upper.join(&at);
        if parts.peek().is_none() {
            let mut created = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(file.mode)
                .open(&target)?;
            io::Write::write_all(&mut created, &file.content)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(file.mode))?;
            give(&target, file.uid)?;
        } else if !target.exists() {
            let covered = below.iter().find_map(|layer| {
                fs::symlink_metadata(layer.join(&at)).ok().filter(fs::Metadata::is_dir)
            });
            make_dir(&target, covered.as_ref().map_or(0o755, |dir| dir.mode() & 0o7777))?;
            if let (Some(covered), true) = (&covered, is_root()) {
                std::os::unix::fs::chown(&target, Some(covered.uid()), Some(covered.gid()))?;
            } else {
                give(&target, file.uid)?;
            }
        }
    }
    Ok(())
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir(path)?;
    // The process's umask may have taken bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn invalid(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{} is not an absolute path without `..`", path.display()),
    )
}
