//! A process whose starter reads its output as it comes, and is there for as long as it runs.
//!
//! It is held up by that reader as by a pipe: what the reader has not taken yet is bounded, on the
//! disk as everywhere. What was taken is let go, so that output of any length takes no room. When
//! the reader leaves, the process is hung up on, as by a terminal that is closed; one that takes
//! no notice goes on, and is held up by nobody.

use std::{cell::Cell, os::fd::AsFd};

use rustix::{
    fs::{FallocateFlags, fallocate},
    process::Signal,
};

use super::{Offsets, Process, Stream};

/// Bytes of each stream that may wait for the reader.
const WINDOW: u64 = 1024 * 1024;

/// Bytes that are let go at once: the kernel frees whole blocks, and each call costs.
const RELEASE: u64 = 1024 * 1024;

/// How far the reader is.
#[derive(Debug, Default)]
pub(crate) struct Attendance {
    read: Cell<Offsets>,
    /// Somebody reads.
    taken: Cell<bool>,
    /// They left.
    left: Cell<bool>,
}

impl Attendance {
    /// Takes the reader's place; false if it is taken, or was.
    pub(super) fn take(&self) -> bool {
        !self.taken.replace(true)
    }

    /// Whether all from there on is kept.
    pub(super) fn has(&self, from: Offsets) -> bool {
        let read = self.read.get();
        from.stdout >= read.stdout && from.stderr >= read.stderr
    }

    /// Lets go of what was read of a stream; how far from its beginning nothing is kept.
    pub(super) fn release(&self, stream: Stream, file: impl AsFd, before: u64) -> u64 {
        let read = self.read(stream);
        let length = (read - before.min(read)) / RELEASE * RELEASE;
        if length == 0 {
            return before;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where the file system cannot, it takes room until the process is forgotten.
        let _kept = fallocate(file, flags, before, length);
        before + length
    }

    fn read(&self, stream: Stream) -> u64 {
        match stream {
            Stream::Stdout => self.read.get().stdout,
            Stream::Stderr => self.read.get().stderr,
        }
    }
}

impl Process {
    /// Bytes of a stream that the process may print before somebody must read.
    pub(super) fn room(&self, stream: Stream) -> u64 {
        match &self.attendance {
            Some(attendance) if !attendance.left.get() => {
                (attendance.read(stream) + WINDOW).saturating_sub(self.bytes(stream).get())
            }
            _ => u64::MAX,
        }
    }

    /// Notes how far its reader is.
    pub(super) fn has_read(&self, at: Offsets) {
        let Some(attendance) = &self.attendance else { return };
        let before = attendance.read.replace(at);
        if (before.stdout, before.stderr) != (at.stdout, at.stderr) {
            self.touch();
        }
    }

    /// Its reader left.
    pub(super) fn leave(&self) {
        let Some(attendance) = &self.attendance else { return };
        attendance.left.set(true);
        // One that is over is beyond that.
        self.signal(Signal::HUP);
        self.touch();
    }
}
