//! Work on a sandbox's files that needs rights the server may lack.
//!
//! A sandbox may take away its own right to read its files, and without privilege they are the
//! server's user's, who then has no right either. As root of a user namespace in which that user
//! is mapped one has it all the same. Only a process of its own can enter one.
#![expect(unsafe_code, reason = "splits off a process")]

use std::{
    fs,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::super::{sys, template::is_root};

/// A process that does several things one after the other, each when it is told to.
#[derive(Debug)]
pub(super) struct Helper {
    pid: Option<Pid>,
    go: PipeWriter,
    results: PipeReader,
}

/// How one thing went: 0 or the number of the error, and what it came to.
type Message = [u8; 12];

impl Helper {
    /// Splits it off. `work` does its `n`th thing when called with `n`, for `things` of them.
    ///
    /// It runs in a copy of a process with threads: it may allocate, but must take no lock that
    /// another thread could hold.
    pub(super) fn start(
        things: u32,
        mut work: impl FnMut(u32) -> io::Result<u64>,
    ) -> io::Result<Self> {
        let (mut told, go) = io::pipe()?;
        let (results, mut answer) = io::pipe()?;
        // SAFETY: the C library's fork leaves its allocator usable; other locks are `work`'s duty.
        if let Some(pid) = unsafe { sys::fork()? } {
            return Ok(Self { pid: Pid::from_raw(pid), go, results });
        }
        drop((go, results));
        let entered = enter();
        for number in 0..things {
            // Whoever would tell it to go on may be gone.
            if told.read_exact(&mut [0]).is_err() {
                break;
            }
            let done = match &entered {
                Ok(()) => work(number),
                Err(error) => Err(io::Error::from(error.kind())),
            };
            let (code, value) = match done {
                Ok(value) => (0, value),
                Err(error) => (error.raw_os_error().unwrap_or(libc::EIO), 0),
            };
            let mut message = Message::default();
            message[..4].copy_from_slice(&code.to_le_bytes());
            message[4..].copy_from_slice(&value.to_le_bytes());
            if answer.write_all(&message).is_err() || code != 0 {
                break;
            }
        }
        sys::exit_now(0)
    }

    /// Has it do the next thing.
    pub(super) fn next(&mut self) -> io::Result<u64> {
        self.go.write_all(b"!")?;
        let mut message = Message::default();
        self.results.read_exact(&mut message)?;
        let [code, low, high] =
            [0, 4, 8].map(|at| <[u8; 4]>::try_from(&message[at..at + 4]).unwrap_or_default());
        match i32::from_le_bytes(code) {
            0 => {
                let (low, high) = (u32::from_le_bytes(low), u32::from_le_bytes(high));
                Ok(u64::from(high) << 32 | u64::from(low))
            }
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It has done all it was to do, or is to do no more. Not by closing its pipe, of which
        // another helper may have a copy.
        if let Some(pid) = self.pid {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Does one thing with the right to read and write all of a sandbox's files.
pub(super) fn with_rights(mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    if is_root() {
        return work();
    }
    Helper::start(1, |_| work().map(|()| 0))?.next().map(drop)
}

/// Becomes root of a user namespace in which only the present user is anybody.
fn enter() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::unshare(libc::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
}
