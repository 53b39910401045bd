//! Writing a file so that it is there wholly or not at all.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, fsync, openat, renameat, statat, unlinkat,
};

use super::{open::split, tree::make_directory};
use crate::sys::rights::{self, Rights};

/// Tells temporary files apart.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// A file being written beside the place where it will stand. Dropped unfinished, it is removed.
pub(crate) struct NewFile {
    rights: Rights,
    directory: Option<OwnedFd>,
    temporary: PathBuf,
    name: PathBuf,
    /// Where the bytes go.
    pub(crate) file: File,
}

impl NewFile {
    /// Begins a file for `path`; runs in `rights`, which are kept for cleaning up.
    pub(crate) fn begin(path: &Path, mode: Option<u32>, rights: Rights) -> io::Result<Self> {
        let (above, name) = split(path)?;
        let directory = make_directory(above)?;
        let mode = match (mode, statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)) {
            (Some(mode), _) => mode,
            (None, Ok(old)) => match FileType::from_raw_mode(old.st_mode) {
                FileType::RegularFile => old.st_mode & 0o7777,
                FileType::Directory => return Err(rustix::io::Errno::ISDIR.into()),
                _ => 0o644,
            },
            (None, Err(_)) => 0o644,
        };
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temporary = PathBuf::from(format!(".rclaude-{}-{serial}", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // The real mode comes with the content: until then nobody else should look.
        let file = openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let new = Self {
            rights,
            directory: Some(directory),
            temporary,
            name: name.into(),
            file: File::from(file),
        };
        fchmod(&new.file, Mode::from_raw_mode(mode))?;
        Ok(new)
    }

    /// Puts the file in its place; runs in the rights it was begun with.
    pub(crate) fn finish(mut self, sync: bool) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if sync {
            fsync(&self.file)?;
        }
        renameat(directory, &self.temporary, directory, &self.name)?;
        self.directory = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else { return };
        let temporary = std::mem::take(&mut self.temporary);
        let rights = self.rights;
        let remove = move || {
            // What cannot be removed was moved or removed by its owner.
            let _gone =
                rights::with(rights, || Ok(unlinkat(&directory, &temporary, AtFlags::empty())?));
        };
        match tokio::runtime::Handle::try_current() {
            // Dropped by a request that was given up, on the loop's thread, which keeps its
            // rights; or by a job, whose thread has them already and restores them after.
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}
