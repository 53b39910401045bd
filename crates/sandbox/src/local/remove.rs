//! Removing what a sandbox wrote, whatever it wrote.
//!
//! A sandbox may nest directories deeper than any path or stack is long, and take away its own
//! right to look into them. Deep trees are lifted to the top and removed from there, so that
//! neither paths nor recursion grow beyond a bound; rights are given back before looking.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{layers::btrfs, layout::EngineDir, sys::open_own};

/// Removes something of the engine's: gone at once for whoever looks, while removing may take a
/// while, and may be interrupted. Something already gone is `NotFound`.
pub(super) fn set_aside(path: &Path, engine: &EngineDir) -> io::Result<()> {
    let trash = engine.trash_for(path);
    fs::rename(path, &trash)?;
    empty(&trash)
}

/// Removes something from the trash. A disk that is a subvolume goes as a whole.
pub(super) fn empty(trash: &Path) -> io::Result<()> {
    if let Ok(dir) = open_own(&trash.join("disk"))
        && btrfs::is_subvolume(&dir)?
    {
        btrfs::destroy(open_own(trash)?, c"disk")?;
    }
    remove_tree(trash)
}

/// How deep one pass goes: so many of the longest names still make a path the kernel takes.
const DEPTH: usize = 12;

/// Removes `path` and all in it. Something already gone is fine.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let mut lifted = 0;
    loop {
        match pass(path, path, 0, &mut lifted) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Removes down to [`DEPTH`] and lifts what is deeper to `top`; says whether `dir` is gone.
fn pass(top: &Path, dir: &Path, depth: usize, lifted: &mut u64) -> io::Result<bool> {
    let mut empty = true;
    for entry in readable(dir)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            fs::remove_file(&path)?;
        } else if depth < DEPTH {
            empty &= pass(top, &path, depth + 1, lifted)?;
        } else {
            // Moving a directory changes its `..`, which takes the right to write to it.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            fs::rename(&path, free_name(top, lifted))?;
        }
    }
    if empty {
        match fs::remove_dir(dir) {
            // Something was lifted into it while it was read.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            other => other?,
        }
    }
    Ok(empty)
}

/// Opens a directory, giving its owner all rights first.
fn readable(dir: &Path) -> io::Result<fs::ReadDir> {
    let mode = fs::symlink_metadata(dir)?.permissions().mode();
    if mode & 0o700 != 0o700 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    }
    fs::read_dir(dir)
}

fn free_name(top: &Path, lifted: &mut u64) -> PathBuf {
    loop {
        *lifted += 1;
        let path = top.join(format!(".lifted-{lifted}"));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn deep_closed_and_linked_trees_go_and_what_links_point_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::write(&kept, "x").unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        symlink(dir.path(), top.join("link")).unwrap();
        fs::write(top.join("file"), "x").unwrap();
        let mut at = rustix::fs::open(
            &top,
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for _ in 0..600 {
            rustix::fs::mkdirat(&at, "a-long-name", rustix::fs::Mode::RWXU).unwrap();
            at = rustix::fs::openat(
                &at,
                "a-long-name",
                rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        let closed = top.join("closed");
        fs::create_dir_all(closed.join("in")).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        assert!(kept.exists());
        remove_tree(&top).unwrap();
    }
}
