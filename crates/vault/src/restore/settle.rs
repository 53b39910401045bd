//! The last step of a restore: links and devices, and everything's owner, attributes, mode and
//! times, in that order, for each undoes some of those before it.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, linkat, mknodat,
        symlinkat, utimensat,
    },
    io::Errno,
    process::geteuid,
};

use super::{Place, place::Spot};
use crate::{
    Result, VaultError,
    tree::{Facts, Kind, set_attribute},
};

pub(super) struct Settler<'a> {
    place: &'a Place,
    /// Directories that more may come into.
    open: Vec<(PathBuf, Facts)>,
    is_root: bool,
    not_permitted: u64,
}

impl<'a> Settler<'a> {
    pub(super) fn new(place: &'a Place) -> Self {
        Self { place, open: Vec::new(), is_root: geteuid().is_root(), not_permitted: 0 }
    }

    /// Another name of a file that is there. Where the file itself was not permitted there is
    /// nothing to name.
    pub(super) fn name(&mut self, first: &Path, path: &Path) -> Result<()> {
        self.close_all_but_above(path)?;
        let link = || -> io::Result<()> {
            let (from, to) = (self.place.spot(first)?, self.place.spot(path)?);
            Ok(linkat(from.dir(), from.name(), to.dir(), to.name(), AtFlags::empty())?)
        };
        match link() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_root => {
                self.not_permitted += 1;
                Ok(())
            }
            other => other.map_err(VaultError::tree("link", path)),
        }
    }

    /// The next entry, in the order of a walk. Directories and files are there already.
    pub(super) fn entry(&mut self, path: PathBuf, facts: Facts) -> Result<()> {
        self.close_all_but_above(&path)?;
        if facts.kind == Kind::Dir {
            self.open.push((path, facts));
            return Ok(());
        }
        if self.make(&path, &facts)? { self.settle(&path, &facts) } else { Ok(()) }
    }

    /// Settles the directories that are still open. How much was not permitted.
    pub(super) fn finish(mut self) -> Result<u64> {
        while let Some((path, facts)) = self.open.pop() {
            self.settle(&path, &facts)?;
        }
        Ok(self.not_permitted)
    }

    fn close_all_but_above(&mut self, path: &Path) -> Result<()> {
        while let Some((dir, facts)) = self.open.pop_if(|(dir, _)| !path.starts_with(dir)) {
            self.settle(&dir, &facts)?;
        }
        Ok(())
    }

    /// Makes what is neither file nor directory. Whether it was permitted.
    fn make(&mut self, path: &Path, facts: &Facts) -> Result<bool> {
        let place = self.place;
        let node = |kind, device| -> io::Result<()> {
            let spot = place.spot(path)?;
            Ok(mknodat(spot.dir(), spot.name(), kind, Mode::RUSR | Mode::WUSR, device)?)
        };
        let made = match &facts.kind {
            Kind::File | Kind::Dir => return Ok(true),
            Kind::Symlink(_) => {
                let link = || -> io::Result<()> {
                    let spot = place.spot(path)?;
                    let target = facts.kind.target().unwrap_or_default();
                    Ok(symlinkat(target, spot.dir(), spot.name())?)
                };
                link()
            }
            Kind::Char(device) => node(FileType::CharacterDevice, *device),
            Kind::Block(device) => node(FileType::BlockDevice, *device),
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Socket => node(FileType::Socket, 0),
        };
        let before = self.not_permitted;
        self.permitted(made).map_err(VaultError::tree("make", path))?;
        Ok(self.not_permitted == before)
    }

    fn settle(&mut self, path: &Path, facts: &Facts) -> Result<()> {
        let spot = self.place.spot(path).map_err(VaultError::tree("reach", path))?;
        let owner = own(&spot, facts);
        self.permitted(owner).map_err(VaultError::tree("set the owner of", path))?;
        for (name, value) in &facts.attributes {
            let set = set_attribute(spot.dir(), spot.name(), name, value);
            self.permitted(set).map_err(|error| {
                let name = String::from_utf8_lossy(name);
                let text = format!("extended attribute {name}: {error}");
                let error = io::Error::new(error.kind(), text);
                VaultError::tree("set an attribute of", path)(error)
            })?;
        }
        if !matches!(facts.kind, Kind::Symlink(_)) {
            let mode = Mode::from_raw_mode(facts.mode);
            let set = chmodat(spot.dir(), spot.name(), mode, AtFlags::empty());
            set.map_err(|error| VaultError::tree("set the mode of", path)(error.into()))?;
        }
        let time =
            Timespec { tv_sec: facts.mtime.seconds, tv_nsec: facts.mtime.nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(spot.dir(), spot.name(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| VaultError::tree("set the times of", path)(error.into()))
    }

    /// Passes over what the system keeps from all but root.
    fn permitted(&mut self, result: io::Result<()>) -> io::Result<()> {
        let error = match result {
            Err(error) if !self.is_root => error,
            other => return other,
        };
        let refusals = [Errno::PERM, Errno::ACCESS, Errno::NOTSUP, Errno::INVAL];
        if refusals.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
            self.not_permitted += 1;
            return Ok(());
        }
        Err(error)
    }
}

fn own(spot: &Spot<'_>, facts: &Facts) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(facts.uid), Gid::from_raw(facts.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(chownat(spot.dir(), spot.name(), Some(user), Some(group), flags)?)
}
