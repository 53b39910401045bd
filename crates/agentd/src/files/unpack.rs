//! A tar archive into a directory, and never beside it.
//!
//! Names are taken apart and must consist of plain components. Directories are opened so that the
//! kernel refuses to leave the target through any link, whether an entry brought it or it was
//! there before. Links are made only if they lead to somewhere inside.

use std::{
    fs::{File, FileTimes},
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, ResolveFlags, fchmod, linkat, mkdirat, openat, symlinkat, unlinkat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use super::tree::make_directory;

/// Unpacks an archive; entries before one that is refused stay.
pub(crate) fn unpack(path: &Path, from: impl Read) -> io::Result<()> {
    let root = make_directory(path)?;
    let mut archive = Archive::new(from);
    let unpack_all = || {
        for entry in archive.entries()? {
            unpack_entry(root.as_fd(), &mut entry?)?;
        }
        // What pads the archive belongs to it.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
    };
    unpack_all().map_err(|error| match error.raw_os_error() {
        Some(_) => error,
        // What is not the kernel's doing is the archive's.
        None => io::Error::new(io::ErrorKind::InvalidInput, error.to_string()),
    })
}

fn unpack_entry(root: BorrowedFd<'_>, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let path = plain(&entry.path()?)?;
    let kind = entry.header().entry_type();
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o777);
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        // The directory itself.
        return Ok(());
    };
    let above = directory(root, above)?;
    let name = Path::new(name);
    match kind {
        EntryType::Directory => {
            match mkdirat(&above, name, mode | Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            // Whatever was there must be a directory, and inside.
            directory(above.as_fd(), name).map(drop)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(above.as_fd(), name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut file = File::from(openat(&above, name, flags, Mode::from_raw_mode(0o600))?);
            io::copy(entry, &mut file)?;
            fchmod(&file, mode)?;
            let seconds = entry.header().mtime()?;
            match UNIX_EPOCH.checked_add(Duration::from_secs(seconds)) {
                Some(at) => file.set_times(FileTimes::new().set_modified(at)),
                None => Err(refused(&path, "has an impossible time")),
            }
        }
        EntryType::Symlink => {
            let target = target(entry, &path)?;
            let from = path.parent().unwrap_or_else(|| Path::new(""));
            if !stays_inside(&from.join(&target)) || target.is_absolute() {
                return Err(refused(&path, "leads out of the directory"));
            }
            clear(above.as_fd(), name)?;
            Ok(symlinkat(&target, &above, name)?)
        }
        EntryType::Link => {
            let target = plain(&target(entry, &path)?)?;
            let (Some(from), Some(old)) = (target.parent(), target.file_name()) else {
                return Err(refused(&path, "links to a directory"));
            };
            let from = directory(root, from)?;
            if target != path {
                clear(above.as_fd(), name)?;
            }
            Ok(linkat(&from, old, &above, name, AtFlags::empty())?)
        }
        _ => Err(refused(&path, "is neither file, directory nor link")),
    }
}

/// A directory below `root`, made if missing.
fn directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let open = |path| super::open::open_at(root, path, flags, ResolveFlags::BENEATH);
    if path.as_os_str().is_empty() {
        return open(Path::new("."));
    }
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let above = directory(root, path.parent().unwrap_or_else(|| Path::new("")))?;
    let name = path.file_name().unwrap_or_default();
    match mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open(path),
        Err(error) => Err(error.into()),
    }
}

/// Takes a file or link out of the way.
fn clear(directory: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn target(entry: &Entry<'_, impl Read>, path: &Path) -> io::Result<PathBuf> {
    match entry.link_name()? {
        Some(target) => Ok(target.into_owned()),
        None => Err(refused(path, "is a link to nowhere")),
    }
}

/// A path of plain components, from which `./` has been taken.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(refused(path, "leads out of the directory")),
        }
    }
    Ok(plain)
}

/// Whether a relative path, read as text, never climbs above where it starts.
fn stays_inside(path: &Path) -> bool {
    let mut depth = 0_usize;
    path.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => match depth.checked_sub(1) {
            Some(above) => {
                depth = above;
                true
            }
            None => false,
        },
        Component::RootDir | Component::Prefix(_) => false,
    })
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_climb_as_far_as_the_directory_and_no_further() {
        for (path, inside) in
            [("a/../b", true), ("a/b/../../c", true), ("a/../../b", false), ("/a", false)]
        {
            assert_eq!(stays_inside(Path::new(path)), inside, "{path}");
        }
    }

    #[test]
    fn a_name_is_made_of_plain_components() {
        assert_eq!(plain(Path::new("./a/./b")).unwrap(), Path::new("a/b"));
        assert!(plain(Path::new("a/../b")).is_err());
        assert!(plain(Path::new("/etc/passwd")).is_err());
    }
}
