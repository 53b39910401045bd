//! What is known of one entry of a tree besides its content.

use std::{ffi::CString, io, os::fd::AsFd};

use rustix::{
    buffer::spare_capacity,
    fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

/// By what it is told whether an entry changed: whoever changes anything about a file moves its
/// change time, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub ino: u64,
    /// In nanoseconds; [`Mark::DOUBTED`] if an equal time would prove nothing.
    pub ctime: i64,
    pub mtime: i64,
    pub size: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Whether it is a directory that hides what lies below.
    pub opaque: bool,
}

impl Mark {
    /// A change time that no file has: what bears it counts as changed.
    const DOUBTED: i64 = i64::MIN;

    pub(super) fn of(stat: &Stat) -> Self {
        if is_whiteout(stat) {
            // Overlayfs makes all of them links to one file, so all else about them is noise.
            return Self { ino: 0, ctime: 0, mtime: 0, size: 0, mode: stat.st_mode, opaque: false };
        }
        Self {
            ino: stat.st_ino,
            ctime: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
            mtime: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            size: stat.st_size.cast_unsigned(),
            mode: stat.st_mode,
            opaque: false,
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    pub(super) fn is_whiteout(&self) -> bool {
        self.ino == 0
    }

    /// The same, but never taken for unchanged.
    pub(super) fn doubted(self) -> Self {
        if self.is_whiteout() { self } else { Self { ctime: Self::DOUBTED, ..self } }
    }

    /// Whether what bears this mark now is what bore `old` then. A directory's flag is looked at
    /// elsewhere.
    pub(super) fn still(&self, old: &Self) -> bool {
        old.ctime != Self::DOUBTED && Self { opaque: old.opaque, ..*self } == *old
    }
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn nanoseconds(seconds: i64, rest: u64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add_unsigned(rest)
}

/// Owner, permissions, times and attributes, to be given to a copy.
#[derive(Debug, Clone)]
pub(in super::super) struct Meta {
    uid: u32,
    gid: u32,
    mode: u32,
    times: Timestamps,
    attributes: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// Without attributes: of links and special files, which have none that matter.
    pub(super) fn of(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.cast_signed(),
        };
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode,
            times: Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            },
            attributes: Vec::new(),
        }
    }

    /// With those attributes of the file or directory behind `fd` that a sandbox can see or that
    /// mean something in any overlay.
    pub(in super::super) fn read(stat: &Stat, fd: impl AsFd) -> io::Result<Self> {
        let mut attributes = attributes(fd.as_fd())?;
        for (_, value) in attributes.iter_mut().filter(|(name, _)| name.as_c_str() == ORIGIN) {
            // Where it came from means nothing elsewhere; that it came from somewhere does.
            value.clear();
        }
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            attributes.retain(|(name, _)| name.as_c_str() != ORIGIN);
        }
        Ok(Self { attributes, ..Self::of(stat) })
    }

    /// What a directory gets of which nothing is known.
    pub(super) fn plain_directory() -> Self {
        let time = Timespec { tv_sec: 0, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Self { uid: 0, gid: 0, mode: 0o040_755, times, attributes: Vec::new() }
    }

    /// The same for a directory of which overlayfs is to know nothing yet.
    pub(in super::super) fn fresh(mut self) -> Self {
        self.attributes.retain(|(name, _)| name.as_c_str() != OPAQUE && name.as_c_str() != ORIGIN);
        self
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.attributes.iter().any(|(name, value)| name.as_c_str() == OPAQUE && value == b"y")
    }

    pub(super) fn set_opaque(&mut self, opaque: bool) {
        self.attributes.retain(|(name, _)| name.as_c_str() != OPAQUE);
        if opaque {
            self.attributes.push((OPAQUE.to_owned(), b"y".to_vec()));
        }
    }

    /// Notes that a directory may hold whiteouts. Where it has nothing to be merged with,
    /// overlayfs reads a directory as it is, and its whiteouts would be names of nothing, unless
    /// it bears the mark of one that once was merged.
    pub(super) fn set_whiteouts(&mut self) {
        if !self.has_whiteouts() {
            self.attributes.push((ORIGIN.to_owned(), Vec::new()));
        }
    }

    pub(super) fn has_whiteouts(&self) -> bool {
        self.attributes.iter().any(|(name, _)| name.as_c_str() == ORIGIN)
    }

    fn user(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    fn group(&self) -> Gid {
        Gid::from_raw(self.gid)
    }

    /// Gives all of it to what is behind `fd`. In this order: a new owner takes the set-user-id
    /// bit and capabilities away, and everything changes times.
    pub(in super::super) fn give_to(&self, fd: impl AsFd) -> io::Result<()> {
        let fd = fd.as_fd();
        owned(rustix::fs::fchown(fd, Some(self.user()), Some(self.group())))?;
        for (name, value) in &self.attributes {
            rustix::fs::fsetxattr(fd, name.as_c_str(), value, XattrFlags::empty())?;
        }
        rustix::fs::fchmod(fd, Mode::from_raw_mode(self.mode & 0o7777))?;
        Ok(rustix::fs::futimens(fd, &self.times)?)
    }

    /// The same for what has no descriptor: a link or a special file called `name` in `dir`.
    pub(super) fn give_at(&self, dir: impl AsFd, name: &std::ffi::CStr) -> io::Result<()> {
        use rustix::fs::AtFlags;
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let (user, group) = (Some(self.user()), Some(self.group()));
        owned(rustix::fs::chownat(dir.as_fd(), name, user, group, flags))?;
        if !FileType::from_raw_mode(self.mode).is_symlink() {
            let mode = Mode::from_raw_mode(self.mode & 0o7777);
            rustix::fs::chmodat(dir.as_fd(), name, mode, AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(dir.as_fd(), name, &self.times, flags)?)
    }
}

/// Lets go that the owner is nobody in this user namespace: without privilege there is one user,
/// who owns everything.
fn owned(given: rustix::io::Result<()>) -> io::Result<()> {
    match given {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// Marks a directory that hides what lies below it.
const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

/// Is on a directory that was made over one of a lower layer.
const ORIGIN: &std::ffi::CStr = c"user.overlay.origin";

/// Whether an attribute belongs to what a layer keeps. Of overlayfs's own only those two do: the
/// others tell of the file system the tree was written on. What a sandbox sets under
/// overlayfs's name is stored escaped (`user.overlay.overlay.`) and is the sandbox's.
fn kept(name: &[u8]) -> bool {
    match name.strip_prefix(b"user.overlay.") {
        Some(own) => matches!(own, b"opaque" | b"origin") || own.starts_with(b"overlay."),
        None => {
            name.starts_with(b"user.")
                || name == b"security.capability"
                || name.starts_with(b"system.posix_acl_")
        }
    }
}

fn attributes(fd: rustix::fd::BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let mut names = [0; 1024];
    let mut more;
    let names = match rustix::fs::flistxattr(fd, &mut names[..]) {
        Ok(length) => &names[..length],
        Err(Errno::RANGE) => {
            // The kernel's limit.
            more = vec![0; 1 << 16];
            let length = rustix::fs::flistxattr(fd, &mut more[..])?;
            &more[..length]
        }
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| kept(name)) {
        let name = CString::new(name).expect("it was split at every NUL");
        let mut value = Vec::with_capacity(256);
        let read = match rustix::fs::fgetxattr(fd, &name, spare_capacity(&mut value)) {
            Err(Errno::RANGE) => {
                value.reserve(1 << 16);
                rustix::fs::fgetxattr(fd, &name, spare_capacity(&mut value))
            }
            other => other,
        };
        match read {
            Ok(_) => found.push((name, value)),
            // Taken away meanwhile.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
