//! Going through a tree in the order of its paths' components, name by name below open
//! directories: what is swapped for a link meanwhile is not followed.

use std::{
    ffi::OsStr,
    io,
    ops::ControlFlow,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path, PathBuf},
};

use rclaude_tree::{MAX_DEPTH, open_at};
use rustix::{
    fs::{AtFlags, Dir, FileType, OFlags, ResolveFlags, statat},
    io::Errno,
};

/// Names of one directory that are held at once.
const MAX_NAMES: usize = 500_000;

/// What is come by.
pub(super) struct Found<'a> {
    /// The directory it is in.
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a Path,
    /// Its path from where the walk began.
    pub(super) path: &'a Path,
    pub(super) is_file: bool,
}

/// Who goes through a tree.
pub(super) trait Visitor {
    /// A directory is about to be gone through; its path from where the walk began.
    fn enter(&mut self, _directory: BorrowedFd<'_>, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// All of it has been.
    fn leave(&mut self) {}

    /// Whether to pass by something and all that is in it.
    fn skip(&mut self, _path: &Path, _is_directory: bool) -> bool {
        false
    }

    /// Looks at what is there; a break ends the walk.
    fn visit(&mut self, found: &Found<'_>) -> io::Result<ControlFlow<()>>;
}

/// How far a walk goes, and from where.
pub(super) struct Walk {
    /// Levels, 1 for a directory's own entries.
    pub(super) depth: usize,
    /// The last path of the walk before, which this one goes on behind.
    pub(super) after: Option<PathBuf>,
}

impl Walk {
    /// Goes through what is in `directory`.
    pub(super) fn through(
        &self,
        directory: BorrowedFd<'_>,
        visitor: &mut impl Visitor,
    ) -> io::Result<ControlFlow<()>> {
        let after: Option<Vec<&OsStr>> = self.after.as_ref().map(|path| {
            path.components()
                .filter_map(|component| match component {
                    Component::Normal(name) => Some(name),
                    _ => None,
                })
                .collect()
        });
        level(directory, Path::new(""), self.depth.min(MAX_DEPTH), after.as_deref(), visitor)
    }
}

fn level(
    directory: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    after: Option<&[&OsStr]>,
    visitor: &mut impl Visitor,
) -> io::Result<ControlFlow<()>> {
    visitor.enter(directory, path)?;
    let mut names = Vec::new();
    for found in Dir::read_from(directory)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Err(Errno::TOOBIG.into());
        }
        names.push((PathBuf::from(OsStr::from_bytes(name)), found.file_type()));
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let first = after.and_then(|after| after.first().copied());
    for (name, kind) in names {
        let seen = first.is_some_and(|first| name.as_os_str() == first);
        if first.is_some_and(|first| name.as_os_str() < first) {
            continue;
        }
        let kind = match kind {
            FileType::Unknown => match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                // Removed since it was read.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            },
            known => known,
        };
        let path = path.join(&name);
        let is_directory = kind == FileType::Directory;
        if visitor.skip(&path, is_directory) {
            continue;
        }
        if !seen {
            let is_file = kind == FileType::RegularFile;
            let found = Found { directory, name: &name, path: &path, is_file };
            match visitor.visit(&found) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                Err(error) if passed_by(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if is_directory && depth > 1 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let inner = match open_at(directory, &name, flags, ResolveFlags::BENEATH) {
                Err(error) if passed_by(&error) => continue,
                inner => inner?,
            };
            let rest = after.filter(|_| seen).map(|after| &after[1..]).filter(|it| !it.is_empty());
            if level(inner.as_fd(), &path, depth - 1, rest, visitor)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    visitor.leave();
    Ok(ControlFlow::Continue(()))
}

/// Something that went away, became something else, or is not for this user: a walk goes on.
fn passed_by(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EACCES | libc::ENOTDIR | libc::ELOOP | libc::EXDEV)
    )
}
