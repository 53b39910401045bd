//! The directory a tree is restored into.
//!
//! Everything below it is reached from its descriptor, step by step where a path is longer than the
//! kernel takes.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::{Result, VaultError};

/// How much of a path is gone at once; the kernel's limit is 4096 bytes.
const STRIDE: usize = 2048;

const STEP: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(crate) struct Place {
    root: OwnedFd,
}

/// A directory, and a short way from it.
pub(super) struct Spot<'a> {
    near: Option<OwnedFd>,
    root: BorrowedFd<'a>,
    pub(super) rest: PathBuf,
}

impl Spot<'_> {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.near.as_ref().map_or(self.root, |near| near.as_fd())
    }

    pub(super) fn name(&self) -> &OsStr {
        self.rest.as_os_str()
    }
}

impl Place {
    /// Makes the directory if it does not exist; one that is there has to be empty.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(VaultError::tree("make the directory", path))?;
        let mut entries = fs::read_dir(path).map_err(VaultError::tree("list", path))?;
        if entries.next().is_some() {
            return Err(VaultError::Invalid(format!(
                "{} is not empty: nothing is restored over what is there",
                path.display()
            )));
        }
        let flags = STEP.difference(OFlags::NOFOLLOW);
        let root = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| VaultError::tree("open the directory", path)(error.into()))?;
        Ok(Self { root })
    }

    /// How to reach what is at a path.
    pub(super) fn spot(&self, path: &Path) -> io::Result<Spot<'_>> {
        let (mut near, mut rest) = (None::<OwnedFd>, path.to_owned());
        while rest.as_os_str().len() > STRIDE {
            let bytes = rest.as_os_str().as_bytes();
            // A name is shorter than a stride, so there is a slash.
            let Some(slash) = bytes[..STRIDE].iter().rposition(|byte| *byte == b'/') else { break };
            let (step, further) = (OsStr::from_bytes(&bytes[..slash]), &bytes[slash + 1..]);
            let from = near.as_ref().map_or_else(|| self.root.as_fd(), |near| near.as_fd());
            let next = openat(from, step, STEP, Mode::empty())?;
            rest = PathBuf::from(OsStr::from_bytes(further).to_owned());
            near = Some(next);
        }
        if rest.as_os_str().is_empty() {
            rest = PathBuf::from(OsString::from("."));
        }
        Ok(Spot { near, root: self.root.as_fd(), rest })
    }

    /// Makes a directory that only its owner gets into, for now. The root is there already.
    pub(super) fn make_dir(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let make = || -> io::Result<()> {
            let spot = self.spot(path)?;
            Ok(mkdirat(spot.dir(), spot.name(), Mode::RWXU)?)
        };
        make().map_err(VaultError::tree("make the directory", path))
    }
}
