//! A tar archive into a directory, and never beside it.
//!
//! Names are taken apart and must consist of plain components. Directories are opened so that the
//! kernel refuses to leave the target through any link, whether an entry brought it or it was
//! there before. Files are written under a passing name and renamed, so that what is there under
//! a file's own name is whole, even if the archive breaks off. Special permission bits (setuid,
//! setgid, sticky) and devices are nobody's to bring.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, linkat,
        mkdirat, renameat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use crate::{make::make_directory, open::open_at, temporary::temporary};

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpack {
    /// Make symbolic links as they are, wherever they lead; otherwise an archive with one that
    /// leads out of the directory is refused. Entries never go through links in either case.
    pub any_links: bool,
    /// Give files and directories the times in the archive, instead of now's.
    pub times: bool,
    /// The permission bits that may be taken over; the rest are cleared.
    pub mode_mask: u32,
}

impl Default for Unpack {
    fn default() -> Self {
        Self { any_links: false, times: true, mode_mask: 0o777 }
    }
}

/// What a directory is given once all that belongs into it is there.
struct Later {
    path: PathBuf,
    mode: u32,
    modified: Option<Timespec>,
}

impl Unpack {
    /// Unpacks an archive into the directory at an absolute `path`, which is made if missing;
    /// entries before one that is refused stay.
    pub fn unpack(self, path: &Path, from: impl Read) -> io::Result<()> {
        let root = make_directory(path)?;
        let mut archive = Archive::new(from);
        let unpack_all = || {
            let mut place = Place { root: root.as_fd(), above: None };
            let mut later = Vec::new();
            for entry in archive.entries()? {
                self.entry(&mut place, &mut later, &mut entry?)?;
            }
            // Innermost first: to be changed a directory must still be open to its owner.
            for directory in later.into_iter().rev() {
                finish(root.as_fd(), &directory)?;
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

    fn entry(
        self,
        place: &mut Place<'_>,
        later: &mut Vec<Later>,
        entry: &mut Entry<'_, impl Read>,
    ) -> io::Result<()> {
        let path = plain(&entry.path()?)?;
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()? & 0o777 & self.mode_mask;
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let modified = if self.times { Some(time(entry, &path)?) } else { None };
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            // The directory itself.
            return Ok(());
        };
        let name = Path::new(name);
        let above = place.directory(above)?;
        match kind {
            EntryType::Directory => {
                match mkdirat(above, name, Mode::from_raw_mode(mode) | Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                // Whatever was there must be a directory, and inside.
                directory(above, name)?;
                later.push(Later { path, mode, modified });
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let (file, passing) = temporary(above)?;
                let placed = write(entry, file, mode, modified)
                    .and_then(|()| Ok(renameat(above, &passing, above, name)?));
                if placed.is_err() {
                    clear(above, &passing)?;
                }
                placed
            }
            EntryType::Symlink => {
                let target = target(entry, &path)?;
                let from = path.parent().unwrap_or_else(|| Path::new(""));
                let leads_out = !stays_inside(&from.join(&target)) || target.is_absolute();
                if !self.any_links && leads_out {
                    return Err(refused(&path, "leads out of the directory"));
                }
                clear(above, name)?;
                symlinkat(&target, above, name)?;
                let Some(modified) = modified else { return Ok(()) };
                Ok(utimensat(above, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
            }
            EntryType::Link => {
                let target = plain(&target(entry, &path)?)?;
                let (Some(from), Some(old)) = (target.parent(), target.file_name()) else {
                    return Err(refused(&path, "links to a directory"));
                };
                let from = directory(place.root, from)?;
                let above = place.directory(path.parent().unwrap_or_else(|| Path::new("")))?;
                if target != path {
                    clear(above, name)?;
                }
                Ok(linkat(&from, old, above, name, AtFlags::empty())?)
            }
            _ => Err(refused(&path, "is neither file, directory nor link")),
        }
    }
}

/// Where entries go, with the directory of the last one open: the next is mostly there too.
struct Place<'a> {
    root: BorrowedFd<'a>,
    above: Option<(PathBuf, OwnedFd)>,
}

impl Place<'_> {
    fn directory(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        let opened = match self.above.take() {
            Some((known, opened)) if known == path => opened,
            _ => directory(self.root, path)?,
        };
        Ok(self.above.insert((path.to_owned(), opened)).1.as_fd())
    }
}

fn write(
    entry: &mut Entry<'_, impl Read>,
    mut file: File,
    mode: u32,
    modified: Option<Timespec>,
) -> io::Result<()> {
    io::copy(entry, &mut file)?;
    fchmod(&file, Mode::from_raw_mode(mode))?;
    match modified {
        Some(modified) => Ok(rustix::fs::futimens(&file, &times(modified))?),
        None => Ok(()),
    }
}

/// Gives a directory its mode and time; what it has become meanwhile is not followed.
fn finish(root: BorrowedFd<'_>, later: &Later) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let opened = match open_at(root, &later.path, flags, ResolveFlags::BENEATH) {
        // Replaced or removed since, by a later entry or by somebody else: not ours any more.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    if let Some(modified) = later.modified {
        rustix::fs::futimens(&opened, &times(modified))?;
    }
    Ok(fchmod(&opened, Mode::from_raw_mode(later.mode))?)
}

const fn times(modified: Timespec) -> Timestamps {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps { last_access: untouched, last_modification: modified }
}

/// When an entry was modified: to the nanosecond if the archive says so.
fn time(entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<Timespec> {
    let impossible = || refused(path, "has an impossible time");
    let mut exact = None;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if extension.key_bytes() == b"mtime" {
                exact = Some(fine(extension.value_bytes()).ok_or_else(impossible)?);
            }
        }
    }
    if let Some(exact) = exact {
        return Ok(exact);
    }
    let seconds = i64::try_from(entry.header().mtime()?).map_err(|_| impossible())?;
    Ok(Timespec { tv_sec: seconds, tv_nsec: 0 })
}

/// Seconds with a decimal fraction, of which nine digits count.
fn fine(text: &[u8]) -> Option<Timespec> {
    let text = str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(fraction) || !digits(seconds.strip_prefix('-').unwrap_or(seconds)) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Timespec { tv_sec: seconds.parse().ok()?, tv_nsec: nine.parse().ok()? })
}

/// A directory below `root`, made if missing.
fn directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let open = |path| open_at(root, path, flags, ResolveFlags::BENEATH);
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
    fn times_have_fractions() {
        let fine = |text: &str| fine(text.as_bytes()).map(|at| (at.tv_sec, at.tv_nsec));
        assert_eq!(fine("12.000000034"), Some((12, 34)));
        assert_eq!(fine("12.5"), Some((12, 500_000_000)));
        assert_eq!(fine("12"), Some((12, 0)));
        for bad in ["", "x", "1.x", "1.-5", "1.2.3", "99999999999999999999"] {
            assert_eq!(fine(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_made_of_plain_components() {
        assert_eq!(plain(Path::new("./a/./b")).unwrap(), Path::new("a/b"));
        assert!(plain(Path::new("a/../b")).is_err());
        assert!(plain(Path::new("/etc/passwd")).is_err());
    }
}
