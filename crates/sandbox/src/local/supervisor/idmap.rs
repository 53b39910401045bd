//! Which of the host's user ids a sandbox's users really are.
//!
//! Every running sandbox has a *slot*: 65,536 ids of the host that nobody else uses. On disk
//! owners are canonical (0 is root, 1000 the agent); mounts translate them into the slot's
//! range, so a sandbox may come back in another slot and no file is ever given to anybody.
//!
//! Without privilege there are no ranges: the one id the kernel lets us map is the server's own
//! user, and in the sandbox it is the agent.

use std::{
    collections::hash_map::{Entry, HashMap},
    fs::{self, File},
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use super::super::{
    sys::{self, Cloned},
    template::AGENT,
};

/// The first id of slot 0; ids under it are the host's own.
const FIRST: u32 = 0x1000_0000;
/// Ids in a slot.
const RANGE: u32 = 0x1_0000;
/// How many slots there are below the ids that mean "nobody".
pub(super) const SLOTS: u32 = (u32::MAX - FIRST) / RANGE;

/// How users inside relate to users outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// The range of a slot.
    Slot(u32),
    /// Only the agent, who is whoever runs the supervisor.
    Single,
}

impl Mapping {
    /// The text of `uid_map` and `gid_map`.
    pub(super) fn table(self) -> String {
        match self {
            Self::Slot(slot) => format!("0 {} {RANGE}", FIRST + slot * RANGE),
            Self::Single => format!("{AGENT} 0 1"),
        }
    }

    /// Who the first process is.
    pub(super) fn first_user(self) -> u32 {
        match self {
            Self::Slot(_) => 0,
            Self::Single => AGENT,
        }
    }

    /// Writes the tables of a process in a new user namespace.
    pub(super) fn apply(self, pid: i32) -> io::Result<()> {
        if self == Self::Single {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        fs::write(format!("/proc/{pid}/uid_map"), self.table())?;
        fs::write(format!("/proc/{pid}/gid_map"), self.table())
    }
}

/// User namespaces that stand for slots, made when first needed. They hold no process; mounts
/// refer to them for their tables only.
#[derive(Debug, Default)]
pub(super) struct IdMaps(HashMap<u32, OwnedFd>);

impl IdMaps {
    /// The user namespace with a slot's tables.
    pub(super) fn of(&mut self, slot: u32) -> io::Result<BorrowedFd<'_>> {
        let namespace: &OwnedFd = match self.0.entry(slot) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(free) => free.insert(make(Mapping::Slot(slot))?),
        };
        Ok(namespace.as_fd())
    }
}

#[expect(unsafe_code, reason = "clones a process; the supervisor has one thread")]
fn make(mapping: Mapping) -> io::Result<OwnedFd> {
    let (mut wait, held) = io::pipe()?;
    // SAFETY: the supervisor is single-threaded; the child only reads and ends.
    match unsafe { sys::clone_process(libc::CLONE_NEWUSER, None)? } {
        Cloned::Child => {
            drop(held);
            let _ = wait.read(&mut [0]);
            sys::exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let made = mapping.apply(pid).and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
            drop(held);
            rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            )?;
            made.map(OwnedFd::from)
        }
    }
}
