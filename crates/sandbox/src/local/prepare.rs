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
    layers::{Meta, btrfs},
    layout::SandboxDir,
    record::{self, StoredSpec},
    remove,
    sys::open_own,
    template::{give, is_root},
};
use crate::provider::SeedFile;

/// What the writable disk begins as.
#[derive(Debug)]
pub(super) enum Beginning<'a> {
    /// Nothing but these files.
    Files(&'a [SeedFile]),
    /// The state that the layers show, the uppermost of which has this tree. Whatever was put in
    /// place at its first start is in it, and may have changed since.
    State(&'a Path),
}

/// Whether the directory is complete.
pub(super) fn is_complete(dir: &SandboxDir) -> io::Result<bool> {
    Ok(record::read::<StoredSpec>(&dir.spec())?.is_some())
}

/// Makes the directory complete, unless it is; with a disk of which snapshots can be made, if
/// `snapshots` says that this can be had.
pub(super) fn prepare(
    dir: &SandboxDir,
    spec: &StoredSpec,
    beginning: &Beginning<'_>,
    snapshots: bool,
) -> io::Result<()> {
    if is_complete(dir)? {
        return Ok(());
    }
    match fs::create_dir(dir.path()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove::empty(dir.path())?;
            fs::create_dir(dir.path())?;
        }
        other => other?,
    }
    if snapshots {
        btrfs::create(open_own(dir.path())?, c"disk")?;
        fs::set_permissions(dir.subvolume(), fs::Permissions::from_mode(0o755))?;
    }
    make_dir(&dir.upper(), 0o755)?;
    make_dir(&dir.work(), 0o755)?;
    match beginning {
        Beginning::Files(files) => {
            let below = spec.layers.iter().chain([&spec.skeleton]);
            let below: Vec<_> = below.map(PathBuf::as_path).collect();
            for file in *files {
                place(&dir.upper(), &below, file)?;
            }
        }
        // An overlay's root looks like its uppermost layer's.
        Beginning::State(top) => {
            let top = open_own(top)?;
            let root = Meta::read(&rustix::fs::fstat(&top)?, &top)?;
            root.fresh().give_to(open_own(&dir.upper())?)?;
        }
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
