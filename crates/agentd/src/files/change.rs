//! Modes, times and links.

use std::{ffi::OsStr, io, os::fd::AsRawFd, path::Path};

use rclaude_tree::{open, parent};
use rclaude_types::ChangeFile;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, chmodat, symlinkat, utimensat,
};

/// Changes mode and time of what is at `path`, through links.
pub(crate) fn change(path: &Path, change: &ChangeFile) -> io::Result<()> {
    // Open by path only, which needs no right to read; then by that very descriptor.
    let there = open(path, OFlags::PATH)?;
    let itself = format!("/proc/self/fd/{}", there.as_raw_fd());
    if let Some(mode) = change.mode {
        chmodat(CWD, &itself, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    if let Some(at) = change.modified_at {
        let micros = at.as_micros();
        let nanos = micros.rem_euclid(1_000_000) * 1000 + i64::from(change.modified_nanos);
        let modified = Timespec { tv_sec: micros.div_euclid(1_000_000), tv_nsec: nanos };
        let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: untouched, last_modification: modified };
        utimensat(CWD, &itself, &times, AtFlags::empty())?;
    }
    Ok(())
}

/// Makes a symbolic link at `path` where nothing is.
pub(crate) fn link(path: &Path, target: &OsStr) -> io::Result<()> {
    let (directory, name) = parent(path)?;
    Ok(symlinkat(target, directory, name)?)
}
