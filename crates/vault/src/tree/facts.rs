//! What there is to know of a file besides its content.

use std::{
    ffi::OsStr,
    io,
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
};

use rustix::fs::{FileType, Stat, readlinkat};

use super::attributes;

/// A file, directory, link or device: all of it but content and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    /// Permissions with the three bits above them, and no more.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of a regular file; 0 for all else.
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    /// When the system last saw it change; nobody can set it.
    pub(crate) ctime: Option<Time>,
    /// Which names are links to one file: set if it has more than one name and is no directory.
    pub(crate) link: Option<(u64, u64)>,
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink(Vec<u8>),
    Char(u64),
    Block(u64),
    Fifo,
    Socket,
}

/// Seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Facts {
    /// All of it. `name` is one in `dir`, or `.` for the directory itself.
    pub(crate) fn of(dir: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink(readlinkat(dir, name, Vec::new())?.into_bytes()),
            FileType::CharacterDevice => Kind::Char(stat.st_rdev),
            FileType::BlockDevice => Kind::Block(stat.st_rdev),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Err(io::Error::other("a file of no known kind")),
        };
        let linked = stat.st_nlink > 1 && kind != Kind::Dir;
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if kind == Kind::File { stat.st_size.try_into().unwrap_or_default() } else { 0 },
            mtime: Time::new(stat.st_mtime, stat.st_mtime_nsec),
            ctime: Some(Time::new(stat.st_ctime, stat.st_ctime_nsec)),
            link: linked.then_some((stat.st_dev, stat.st_ino)),
            attributes: attributes::all(dir, name)?,
            kind,
        })
    }

    /// A regular file of which no more is known.
    pub(crate) fn plain(size: u64) -> Self {
        let never = Time { seconds: 0, nanoseconds: 0 };
        Self {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size,
            mtime: never,
            ctime: None,
            link: None,
            attributes: Vec::new(),
        }
    }
}

impl Time {
    /// From what the system has, whose types differ by architecture.
    fn new(seconds: impl TryInto<i64>, nanoseconds: impl TryInto<u32>) -> Self {
        Self {
            seconds: seconds.try_into().unwrap_or_default(),
            nanoseconds: nanoseconds.try_into().unwrap_or_default(),
        }
    }
}

impl Kind {
    /// A letter for each, as `find -printf %y` has them.
    pub(crate) fn letter(&self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Dir => b'd',
            Self::Symlink(_) => b'l',
            Self::Char(_) => b'c',
            Self::Block(_) => b'b',
            Self::Fifo => b'p',
            Self::Socket => b's',
        }
    }

    /// A link's target.
    pub(crate) fn target(&self) -> Option<&OsStr> {
        match self {
            Self::Symlink(target) => Some(OsStr::from_bytes(target)),
            _ => None,
        }
    }
}
