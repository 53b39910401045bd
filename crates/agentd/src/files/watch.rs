//! Watching a tree.
//!
//! One inotify instance watches every directory of the tree. A directory that appears is watched
//! first and then looked through, so that what was made in it before is told by the look and what
//! is made after by its watch; what both saw is told once. Where the kernel's queue or a limit of
//! ours overflows, that is told instead: nothing is ever silently missed.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rclaude_tree::{MAX_DEPTH, open, open_at};
use rclaude_types::{FileChange, FileEvent};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, OFlags, ResolveFlags, fstat,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        statat,
    },
    io::Errno,
};

use super::entry::told;

/// Directories of one watch.
const MAX_DIRECTORIES: usize = 100_000;

/// Changes told at once; more are told as an overflow.
const MAX_CHANGES: usize = 20_000;

/// What is asked for.
pub(crate) struct Watching {
    pub(crate) path: PathBuf,
    pub(crate) recursive: bool,
}

/// A watched tree.
pub(crate) struct Watcher {
    watching: Watching,
    /// Which directory it is. It is not kept open: the kernel tells of the end of one that nobody
    /// holds.
    root: (u64, u64),
    inotify: OwnedFd,
    /// Of each watch, the directory from the root.
    directories: HashMap<i32, PathBuf>,
    root_watch: i32,
}

/// What happened to a path since the last time.
#[expect(clippy::struct_excessive_bools, reason = "they vary independently")]
struct Change {
    path: PathBuf,
    directory: bool,
    existed: bool,
    exists: bool,
    replaced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Created,
    Modified,
    Removed,
}

/// Changes in the order in which they began, one for a path.
#[derive(Default)]
struct Changes {
    list: Vec<Change>,
    places: HashMap<PathBuf, usize>,
    overflow: bool,
}

impl Changes {
    fn add(&mut self, path: &Path, directory: bool, kind: Kind) {
        let place = match self.places.get(path) {
            Some(place) => *place,
            None if self.list.len() == MAX_CHANGES => {
                self.overflow = true;
                return;
            }
            None => {
                self.places.insert(path.to_owned(), self.list.len());
                self.list.push(Change {
                    path: path.to_owned(),
                    directory,
                    existed: kind != Kind::Created,
                    exists: true,
                    replaced: false,
                });
                self.list.len() - 1
            }
        };
        let change = &mut self.list[place];
        change.directory = directory;
        change.exists = kind != Kind::Removed;
        change.replaced |= kind == Kind::Created;
    }

    /// As they are told: what came and went meanwhile is not.
    fn told(self, base: &Path) -> Vec<FileEvent> {
        if self.overflow {
            return vec![FileEvent::Overflow];
        }
        let events = self.list.into_iter().filter_map(|change| {
            let shown = if change.path.as_os_str().is_empty() {
                base.to_owned()
            } else {
                base.join(&change.path)
            };
            let (path, path_base64) = told(shown.as_os_str());
            let directory = change.directory;
            let told = FileChange { path, path_base64, directory };
            match (change.existed, change.exists) {
                (false, false) => None,
                (true, false) => Some(FileEvent::Removed(told)),
                (true, true) if !change.replaced => Some(FileEvent::Modified(told)),
                (_, true) => Some(FileEvent::Created(told)),
            }
        });
        events.collect()
    }
}

impl Watcher {
    /// Watches all that is there.
    pub(crate) fn begin(watching: Watching) -> io::Result<Self> {
        let root = open(&watching.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = fstat(&root)?;
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).map_err(|error| match error {
            Errno::MFILE => beyond("inotify instances (fs.inotify.max_user_instances)"),
            error => error.into(),
        })?;
        let directories = HashMap::new();
        let identity = (stat.st_dev, stat.st_ino);
        let mut watcher = Self { watching, root: identity, inotify, directories, root_watch: -1 };
        watcher.follow(&root, Path::new(""), 0, None)?;
        let of_root = watcher.directories.iter().find(|(_, path)| path.as_os_str().is_empty());
        watcher.root_watch = of_root.map_or(-1, |(watch, _)| *watch);
        Ok(watcher)
    }

    /// What becomes readable when something changed.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.inotify.try_clone()
    }

    /// What changed since it was last asked, and whether the watch goes on: it does not if its
    /// directory is gone.
    pub(crate) fn changes(&mut self) -> io::Result<(Vec<FileEvent>, bool)> {
        let mut changes = Changes::default();
        let mut goes_on = true;
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let inotify = self.inotify.try_clone()?;
        let mut reader = inotify::Reader::new(&inotify, &mut buffer);
        loop {
            let (watch, what, name) = match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    (event.wd(), event.events(), name)
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflow = true;
                continue;
            }
            if what.contains(ReadFlags::IGNORED) {
                self.directories.remove(&watch);
                goes_on &= watch != self.root_watch;
                continue;
            }
            if what.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
                if watch == self.root_watch {
                    changes.add(Path::new(""), true, Kind::Removed);
                    goes_on = false;
                }
                continue;
            }
            let (Some(above), Some(name)) = (self.directories.get(&watch), name) else { continue };
            let path = above.join(OsStr::from_bytes(&name));
            let directory = what.contains(ReadFlags::ISDIR);
            if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                changes.add(&path, directory, Kind::Created);
                if directory && self.watching.recursive {
                    self.appeared(&path, &mut changes);
                }
            } else if what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                changes.add(&path, directory, Kind::Removed);
                if directory {
                    self.forget(&path);
                }
            } else {
                changes.add(&path, directory, Kind::Modified);
            }
        }
        if changes.overflow && self.watching.recursive {
            // Directories may have come unseen.
            if let Ok(root) = self.open_root() {
                let _as_far_as_it_goes = self.follow(&root, Path::new(""), 0, None);
            }
        }
        Ok((changes.told(&self.watching.path), goes_on))
    }

    /// The directory that is watched, if that is still where it was.
    fn open_root(&self) -> io::Result<OwnedFd> {
        let root = open(&self.watching.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = fstat(&root)?;
        if (stat.st_dev, stat.st_ino) == self.root {
            return Ok(root);
        }
        Err(Errno::NOENT.into())
    }

    /// Watches a directory that appeared, and tells what is in it.
    fn appeared(&mut self, path: &Path, changes: &mut Changes) {
        let root = self.open_root();
        let Ok(opened) = root.and_then(|root| open_at(&root, path, directory_flags(), BELOW))
        else {
            // Gone again, or not for this user.
            return;
        };
        let depth = path.components().count();
        if self.follow(&opened, path, depth, Some(changes)).is_err() {
            changes.overflow = true;
        }
    }

    /// Watches a directory and, if the watch is recursive, those in it.
    fn follow(
        &mut self,
        directory: &OwnedFd,
        path: &Path,
        depth: usize,
        mut changes: Option<&mut Changes>,
    ) -> io::Result<()> {
        if self.directories.len() == MAX_DIRECTORIES {
            return Err(beyond("directories of one watch"));
        }
        // By its descriptor: its path may be another's by now.
        let itself = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let what = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        let watch = match inotify::add_watch(&self.inotify, itself, what) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => {
                return Err(beyond("directories watched (fs.inotify.max_user_watches)"));
            }
            // Not for this user to see: nor is what happens in it.
            Err(Errno::ACCESS) if depth > 0 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.directories.insert(watch, path.to_owned());
        if !self.watching.recursive || depth > MAX_DEPTH {
            return Ok(());
        }
        for found in Dir::read_from(directory)? {
            let found = found?;
            let name = found.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let name = Path::new(OsStr::from_bytes(name));
            let kind = match found.file_type() {
                FileType::Unknown => match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(_) => continue,
                },
                known => known,
            };
            let is_directory = kind == FileType::Directory;
            let path = path.join(name);
            if let Some(changes) = changes.as_deref_mut() {
                changes.add(&path, is_directory, Kind::Created);
            }
            if is_directory {
                match open_at(directory.as_fd(), name, directory_flags(), BELOW) {
                    Ok(inner) => self.follow(&inner, &path, depth + 1, changes.as_deref_mut())?,
                    // Gone, or not for this user.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::NotFound
                                | io::ErrorKind::PermissionDenied
                                | io::ErrorKind::NotADirectory
                        ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Watches a directory and what was in it no more: it went elsewhere.
    fn forget(&mut self, path: &Path) {
        let gone: Vec<i32> = self
            .directories
            .iter()
            .filter(|(_, it)| it.starts_with(path))
            .map(|(watch, _)| *watch)
            .collect();
        for watch in gone {
            // One of a directory that was removed is gone by itself.
            let _gone = inotify::remove_watch(&self.inotify, watch);
            self.directories.remove(&watch);
        }
    }
}

const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW
}

fn beyond(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, format!("there are more {what} than may be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_between_two_looks_is_not_told() {
        let mut changes = Changes::default();
        changes.add(Path::new("temporary"), false, Kind::Created);
        changes.add(Path::new("new"), false, Kind::Created);
        changes.add(Path::new("new"), false, Kind::Modified);
        changes.add(Path::new("temporary"), false, Kind::Removed);
        changes.add(Path::new("old"), false, Kind::Modified);
        changes.add(Path::new("old"), false, Kind::Modified);
        changes.add(Path::new("swapped"), false, Kind::Removed);
        changes.add(Path::new("swapped"), false, Kind::Created);
        let change = |path: &str| FileChange {
            path: format!("/w/{path}"),
            path_base64: None,
            directory: false,
        };
        assert_eq!(
            changes.told(Path::new("/w")),
            [
                FileEvent::Created(change("new")),
                FileEvent::Modified(change("old")),
                FileEvent::Created(change("swapped")),
            ]
        );
    }
}
