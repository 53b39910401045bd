//! A tree as a tar archive, made while it is sent.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, ResolveFlags, Stat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::open::{open, open_at, parent};

/// Deepest tree that is taken: each level holds a descriptor.
pub const MAX_DEPTH: usize = 256;

/// Longer names are not in an entry's own header.
const SHORT: usize = 100;

/// How a tree is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pack {
    /// The permission bits that are told; the rest are cleared.
    pub mode_mask: u32,
    /// Tell times to the nanosecond, which takes another kilobyte for each entry (a `mtime` of a
    /// PAX header); to the second otherwise.
    pub exact_times: bool,
}

impl Default for Pack {
    fn default() -> Self {
        Self { mode_mask: 0o7777, exact_times: false }
    }
}

impl Pack {
    /// Writes what is at `path` to `to`: the content of a directory, or one file.
    pub fn pack(self, path: &Path, to: impl Write) -> io::Result<()> {
        let mut archive = Builder::new(to);
        match open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => self.directory(&mut archive, directory.as_fd(), Path::new(""), 0)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let (directory, name) = parent(path)?;
                self.entry(&mut archive, directory.as_fd(), &name, &name, 0)?;
            }
            Err(error) => return Err(error),
        }
        archive.finish()
    }

    fn directory(
        self,
        archive: &mut Builder<impl Write>,
        directory: BorrowedFd<'_>,
        shown: &Path,
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(rustix::io::Errno::NAMETOOLONG.into());
        }
        let mut names = Vec::new();
        for found in Dir::read_from(directory)? {
            let found = found?;
            let name = found.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(OsStr::from_bytes(name)));
            }
        }
        names.sort();
        for name in names {
            match self.entry(archive, directory, &name, &shown.join(&name), depth) {
                // Removed since its name was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn entry(
        self,
        archive: &mut Builder<impl Write>,
        directory: BorrowedFd<'_>,
        name: &Path,
        shown: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mut header = header(&stat, self.mode_mask);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let inner = open_at(directory, name, flags, ResolveFlags::BENEATH)?;
                header.set_entry_type(EntryType::Directory);
                let shown_as = self.extend(archive, &stat, shown)?;
                archive.append_data(&mut header, shown_as, io::empty())?;
                self.directory(archive, inner.as_fd(), shown, depth + 1)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = open_at(directory, name, flags, ResolveFlags::BENEATH)?;
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                let shown_as = self.extend(archive, &stat, shown)?;
                // The header has promised a size: a file that shrinks is filled up, one that grows
                // is cut.
                let content = File::from(file).chain(io::repeat(0)).take(size);
                archive.append_data(&mut header, shown_as, content)
            }
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                header.set_entry_type(EntryType::Symlink);
                let shown_as = self.extend(archive, &stat, shown)?;
                archive.append_link(&mut header, shown_as, OsStr::from_bytes(target.to_bytes()))
            }
            // Sockets, pipes and devices mean nothing elsewhere.
            _ => Ok(()),
        }
    }

    /// Puts before an entry what its header cannot say; the name for that header.
    fn extend<'a>(
        self,
        archive: &mut Builder<impl Write>,
        stat: &Stat,
        shown: &'a Path,
    ) -> io::Result<&'a Path> {
        let time = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
        if self.exact_times && stat.st_mtime >= 0 && stat.st_mtime_nsec != 0 {
            archive.append_pax_extensions([("mtime", time.as_bytes())])?;
        }
        let bytes = shown.as_os_str().as_bytes();
        if bytes.len() < SHORT || shown.to_str().is_some() {
            return Ok(shown);
        }
        // The library cuts a long name for the header where it stops being UTF-8, and takes
        // nothing for a name. So the long one goes before it here, as GNU tar has it.
        let mut long = Header::new_gnu();
        long.set_path("././@LongLink")?;
        long.set_entry_type(EntryType::GNULongName);
        long.set_mode(0o644);
        long.set_uid(0);
        long.set_gid(0);
        long.set_mtime(0);
        long.set_size(bytes.len() as u64 + 1);
        long.set_cksum();
        archive.append(&long, bytes.chain(&[0][..]))?;
        Ok(Path::new("a-long-name"))
    }
}

fn header(stat: &Stat, mode_mask: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777 & mode_mask);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}
