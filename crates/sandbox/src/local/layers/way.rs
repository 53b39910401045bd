//! Which way of sealing the file system of a directory allows. Tried, not looked up.

use std::{fs, io, path::Path};

use rclaude_types::SealMethod;

use super::{
    super::{remove::remove_tree, sys::open_own},
    btrfs,
};

/// Tries in `dir`, which must be writable; nothing of it remains.
pub(in super::super) fn find(dir: &Path) -> io::Result<SealMethod> {
    let place = dir.join(format!(".way-{}", std::process::id()));
    let _ = clear(&place);
    fs::create_dir(&place)?;
    let found = if snapshots(&place).is_ok() {
        SealMethod::Btrfs
    } else if shares(&place).is_ok() {
        SealMethod::Reflink
    } else {
        SealMethod::Copy
    };
    clear(&place)?;
    Ok(found)
}

/// Makes and removes what sealing on btrfs makes and removes.
fn snapshots(place: &Path) -> io::Result<()> {
    let place = open_own(place)?;
    btrfs::create(&place, c"disk")?;
    let disk = rustix::fs::openat(
        &place,
        c"disk",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    btrfs::snapshot(&disk, &place, c"seal")?;
    btrfs::destroy(&place, c"seal")?;
    btrfs::destroy(&place, c"disk")
}

fn shares(place: &Path) -> io::Result<()> {
    fs::write(place.join("one"), [b'x'; 8192])?;
    let (one, two) = (fs::File::open(place.join("one"))?, fs::File::create(place.join("two"))?);
    Ok(rustix::fs::ioctl_ficlone(two, one)?)
}

fn clear(place: &Path) -> io::Result<()> {
    remove_tree(place)
}
