//! Trees of files that become layers: owners, modes, times, and appearing all at once.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use tempfile::TempDir;

/// Who owns a session's files, as its sandbox sees it.
pub(super) const AGENT: u32 = 1000;

/// Gives a tree the owner and the modes a sandbox expects, whatever this process's umask is; and,
/// if told, one modification time (seconds since 1970) for all its files.
pub(super) fn settle(path: &Path, mtime: Option<i64>) -> io::Result<()> {
    let meta = path.symlink_metadata()?;
    if rustix::process::geteuid().is_root() && meta.uid() != AGENT {
        lchown(path, Some(AGENT), Some(AGENT))?;
    }
    if meta.is_dir() {
        set_mode(path, &meta, 0o755)?;
        for entry in fs::read_dir(path)? {
            settle(&entry?.path(), mtime)?;
        }
        return Ok(());
    }
    if meta.is_file() {
        set_mode(path, &meta, if meta.mode() & 0o100 == 0 { 0o644 } else { 0o755 })?;
    }
    match mtime {
        Some(seconds) => set_mtime(path, seconds),
        None => Ok(()),
    }
}

fn set_mode(path: &Path, meta: &fs::Metadata, mode: u32) -> io::Result<()> {
    if meta.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Sets a file's (or link's) modification time.
pub(super) fn set_mtime(path: &Path, seconds: i64) -> io::Result<()> {
    let at = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: at, last_modification: at };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Notes that a tree is being handed out; `false` if it is not there.
pub(super) fn touch(path: &Path) -> io::Result<bool> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    match utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A tree under a temporary name beside where it will stand.
#[derive(Debug)]
pub(super) struct Draft {
    dir: TempDir,
    place: PathBuf,
}

/// Marks names of unfinished trees.
const UNFINISHED: &str = ".tmp-";

impl Draft {
    /// Begins a tree that will stand at `place`, whose parent is made if missing.
    pub(super) fn new(place: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(ErrorKind::InvalidInput.into());
        };
        fs::create_dir_all(parent)?;
        let prefix = format!("{}{UNFINISHED}", name.display());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { dir, place: place.to_owned() })
    }

    /// Where it stands for now.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts it in its place.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        match fs::rename(self.dir.path(), &self.place) {
            Ok(()) => {
                // It has moved: there is nothing left to remove.
                let _ = self.dir.keep();
                Ok(self.place)
            }
            // Somebody else made the same tree meanwhile.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                Ok(self.place)
            }
            Err(error) => Err(error),
        }
    }
}

/// Notes in a tree which run of the machine it was made in, for [`is_whole`].
pub(super) fn sign(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("boot"), boot()?)
}

/// Whether a tree is as it was made. After a power cut a file system may show a tree whose files
/// are empty: one that was made before the machine last started counts only if it was on disk by
/// then.
pub(super) fn is_whole(dir: &Path) -> io::Result<bool> {
    Ok(dir.join("durable").exists() || fs::read(dir.join("boot")).ok() == Some(boot()?))
}

/// Gets a tree to disk behind everybody's back. Waiting for it would be waiting for all that the
/// machine has to write, thousands of files of ours or not.
pub(super) fn sync_later(dir: PathBuf) -> io::Result<()> {
    let sync = move || {
        let synced = fs::File::open(&dir).and_then(|opened| Ok(rustix::fs::syncfs(opened)?));
        if let Err(error) = synced.and_then(|()| fs::write(dir.join("durable"), "")) {
            // It will be made again after the next start of the machine.
            tracing::debug!(%error, dir = %dir.display(), "repo: not synced");
        }
    };
    // A thread, as the runtime waits for its own when it ends, and this can take long.
    std::thread::Builder::new().name("sync".to_owned()).spawn(sync).map(drop)
}

fn boot() -> io::Result<Vec<u8>> {
    fs::read("/proc/sys/kernel/random/boot_id")
}

/// Gets files to disk that nobody else has a link to.
pub(super) fn sync_unshared(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            sync_unshared(&entry.path())?;
        } else if meta.is_file() && meta.nlink() == 1 {
            fs::File::open(entry.path())?.sync_data()?;
        }
    }
    Ok(())
}

/// Removes a tree that is in nobody's use.
pub(super) fn remove(place: &Path) -> io::Result<()> {
    let name = place.file_name().unwrap_or_default().display();
    let aside = place.with_file_name(format!("{name}{UNFINISHED}removed"));
    match fs::rename(place, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| fs::remove_dir_all(aside)),
    }
}

/// Removes what killed processes left half-made at `place`. Its maker's lock must be held.
pub(super) fn clear_unfinished(place: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
    let prefix = format!("{}{UNFINISHED}", name.display());
    let entries = match fs::read_dir(parent) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a name is that of an unfinished tree.
pub(super) fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().contains(UNFINISHED)
}
