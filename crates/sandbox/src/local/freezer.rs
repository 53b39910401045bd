//! Letting all processes of a cgroup stand still, and go on.
//!
//! Both versions of cgroups can do it. Version 2 (`cgroup.freeze`, always there from Linux 5.2 on)
//! is preferred: one process stands still in 19 µs where version 1 (the `freezer` hierarchy) takes
//! 125, and its frozen processes can still be killed. Which files there are was decided by whoever
//! made the cgroup; these are plain writes to them, and any process with the right to write may
//! make them. There is nothing to remember: the kernel's files say what was asked for
//! ([`Placement::is_frozen`]) and whether it has come to pass, so whoever is killed between two
//! steps is followed by one who reads them.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::cgroup::{Hierarchies, Place, Placement, field, make_dir};

/// How long a freeze is waited for on the processor before the waiter sleeps: an idle sandbox
/// stands still sooner than a sleeper wakes, and on a busy host whoever lets go of the processor
/// gets it back a scheduler's tick later.
const AT_ONCE: Duration = Duration::from_micros(100);
/// Between two looks at a version 1 freezer, which tells nobody when it is done.
const LONGEST_NAP: Duration = Duration::from_millis(4);

/// One cgroup's freezer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freezer<'a> {
    place: &'a Place,
}

impl Hierarchies {
    /// The version of cgroups by which sandboxes made here can be frozen, if any. Tried on a
    /// cgroup made for that, which is gone when this returns.
    pub(super) fn freezer(&self) -> Option<u8> {
        static TRIES: AtomicU32 = AtomicU32::new(0);
        let number = TRIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("rclaude-probe-{}-{number}", std::process::id());
        let works = |base: &Place| {
            let place = Place { dir: base.dir.join(&name), ..base.clone() };
            let works = make_dir(&place.dir).is_ok()
                && Freezer::of(&place).is_some_and(|freezer| freezer.ask(false).is_ok());
            let _ = fs::remove_dir(&place.dir);
            works
        };
        let (unified, split): (Vec<_>, Vec<_>) = self.places().iter().partition(|it| it.unified);
        let can_split = |base: &&Place| base.controllers.iter().any(|name| name == "freezer");
        if unified.into_iter().any(works) {
            Some(2)
        } else {
            split.into_iter().filter(can_split).any(works).then_some(1)
        }
    }
}

impl Placement {
    /// The freezers the processes are in, the quicker one first.
    fn freezers(&self) -> impl Iterator<Item = Freezer<'_>> {
        let of = |unified| move |place: &&Place| place.unified == unified;
        let sorted = self.0.iter().filter(of(true)).chain(self.0.iter().filter(of(false)));
        sorted.filter_map(Freezer::of)
    }

    /// The one to freeze by.
    pub(super) fn freezer(&self) -> Option<Freezer<'_>> {
        self.freezers().next()
    }

    /// Whether somebody asked for the processes to stand still; they do, or soon will.
    pub(super) fn is_frozen(&self) -> bool {
        self.freezers().any(Freezer::is_asked)
    }

    /// Lets the processes go on, by whichever freezer they stand still. Costs a read where they
    /// do not.
    pub(super) fn thaw(&self) -> io::Result<()> {
        for freezer in self.freezers().filter(|freezer| freezer.is_asked()) {
            match freezer.ask(false) {
                // The cgroup has been removed, and so nothing is in it.
                Err(error) if is_gone(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether a frozen sandbox's memory may go to the host's swap. Sandboxes that run may not
    /// swap: one of them would slow all others down.
    pub(super) fn let_swap(&self, allowed: bool) -> io::Result<()> {
        let limited =
            |place: &&Place| place.unified && place.controllers.iter().any(|name| name == "memory");
        for place in self.0.iter().filter(limited) {
            let file = place.dir.join("memory.swap.max");
            // Not there if the kernel does not account for swap; then there is no limit either.
            if file.exists() {
                fs::write(file, if allowed { "max" } else { "0" })?;
            }
        }
        Ok(())
    }
}

impl<'a> Freezer<'a> {
    fn of(place: &'a Place) -> Option<Self> {
        let here = if place.unified {
            place.dir.join("cgroup.freeze").exists()
        } else {
            place.controllers.iter().any(|name| name == "freezer")
        };
        here.then_some(Self { place })
    }

    /// Lets every process stand still; returns once they all do. If some do not within
    /// `patience`, all go on again and the error is `TimedOut`.
    pub(super) fn freeze(self, patience: Duration) -> io::Result<()> {
        self.ask(true)?;
        match self.wait(patience) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.ask(false)?;
                Err(ErrorKind::TimedOut.into())
            }
            Err(error) => {
                let _ = self.ask(false);
                Err(error)
            }
        }
    }

    /// The processes in it, as this process numbers them.
    pub(super) fn processes(self) -> io::Result<Vec<Pid>> {
        let text = fs::read_to_string(self.file("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect())
    }

    /// Kills every process but one. They must stand still: then none can escape by forking, and
    /// none does anything before it dies (in version 1, when it is thawed).
    pub(super) fn kill_all_but(self, spared: Option<Pid>) -> io::Result<()> {
        let open = |pid: Pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
        let opened: Vec<_> = self.processes()?.into_iter().filter_map(open).collect();
        // Seen again with the descriptor in hand: it is no other process of the same number.
        let still: std::collections::BTreeSet<_> =
            self.processes()?.into_iter().map(Pid::as_raw_nonzero).collect();
        for (pid, process) in opened {
            if Some(pid) != spared && still.contains(&pid.as_raw_nonzero()) {
                match pidfd_send_signal(&process, Signal::KILL) {
                    Err(rustix::io::Errno::SRCH) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn file(self, name: &str) -> PathBuf {
        self.place.dir.join(name)
    }

    fn ask(self, freeze: bool) -> io::Result<()> {
        match (self.place.unified, freeze) {
            (true, true) => fs::write(self.file("cgroup.freeze"), "1"),
            (true, false) => fs::write(self.file("cgroup.freeze"), "0"),
            (false, true) => fs::write(self.file("freezer.state"), "FROZEN"),
            (false, false) => fs::write(self.file("freezer.state"), "THAWED"),
        }
    }

    fn is_asked(self) -> bool {
        let name = if self.place.unified { "cgroup.freeze" } else { "freezer.self_freezing" };
        fs::read_to_string(self.file(name)).is_ok_and(|text| text.trim() == "1")
    }

    /// Waits for all of them to stand still; says whether they do.
    fn wait(self, patience: Duration) -> io::Result<bool> {
        let name = if self.place.unified { "cgroup.events" } else { "freezer.state" };
        let file = File::open(self.file(name))?;
        let begun = Instant::now();
        let mut nap = AT_ONCE;
        loop {
            let mut buffer = [0; 256];
            let length = file.read_at(&mut buffer, 0)?;
            let text = String::from_utf8_lossy(&buffer[..length]);
            let reached = if self.place.unified {
                field(&text, "frozen") == 1
            } else {
                text.trim() == "FROZEN"
            };
            if reached {
                return Ok(true);
            }
            let waited = begun.elapsed();
            let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Ok(false);
            };
            if waited < AT_ONCE {
                std::hint::spin_loop();
            } else if self.place.unified {
                // The kernel tells of changes since the last read.
                let timeout = Timespec {
                    tv_sec: left.as_secs().cast_signed(),
                    tv_nsec: i64::from(left.subsec_nanos()),
                };
                match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            } else {
                std::thread::sleep(nap.min(left));
                nap = (nap * 2).min(LONGEST_NAP);
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    fn place(dir: &Path, unified: bool) -> Place {
        let controllers = if unified { vec![] } else { vec!["freezer".to_owned()] };
        Place { dir: dir.to_owned(), unified, controllers }
    }

    /// A directory with the files the kernel would show in one cgroup.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(dir.path().join(file)).unwrap()
    }

    #[test]
    fn version_2_is_asked_through_one_file_and_answers_through_another() {
        let dir = tree(&[("cgroup.freeze", "0\n"), ("cgroup.events", "populated 1\nfrozen 1\n")]);
        let placement = Placement(vec![place(dir.path(), true)]);
        assert!(!placement.is_frozen());
        placement.freezer().unwrap().freeze(SOON).unwrap();
        assert_eq!(read(&dir, "cgroup.freeze"), "1");
        assert!(placement.is_frozen());
        placement.thaw().unwrap();
        assert_eq!(read(&dir, "cgroup.freeze"), "0");
    }

    #[test]
    fn version_1_is_asked_and_answers_through_its_state() {
        let dir = tree(&[("freezer.state", "THAWED\n"), ("freezer.self_freezing", "0\n")]);
        let placement = Placement(vec![place(dir.path(), false)]);
        assert!(!placement.is_frozen());
        // What was written is what is read: here it comes to pass at once.
        placement.freezer().unwrap().freeze(SOON).unwrap();
        assert_eq!(read(&dir, "freezer.state"), "FROZEN");
        fs::write(dir.path().join("freezer.self_freezing"), "1\n").unwrap();
        assert!(placement.is_frozen());
        placement.thaw().unwrap();
        assert_eq!(read(&dir, "freezer.state"), "THAWED");
    }

    #[test]
    fn version_2_goes_first_and_a_freeze_by_either_is_seen_and_undone() {
        let split = tree(&[("freezer.state", "FROZEN\n"), ("freezer.self_freezing", "1\n")]);
        let unified = tree(&[("cgroup.freeze", "0\n"), ("cgroup.events", "frozen 1\n")]);
        let places = vec![place(split.path(), false), place(unified.path(), true)];
        let placement = Placement(places);
        assert!(placement.is_frozen());
        placement.freezer().unwrap().freeze(SOON).unwrap();
        assert_eq!(read(&unified, "cgroup.freeze"), "1");
        placement.thaw().unwrap();
        assert_eq!(read(&unified, "cgroup.freeze"), "0");
        assert_eq!(read(&split, "freezer.state"), "THAWED");
    }

    #[test]
    fn what_does_not_stand_still_in_time_is_let_go_on() {
        let dir = tree(&[("cgroup.freeze", "0\n"), ("cgroup.events", "frozen 0\n")]);
        let placement = Placement(vec![place(dir.path(), true)]);
        let error = placement.freezer().unwrap().freeze(SOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(read(&dir, "cgroup.freeze"), "0");
    }

    #[test]
    fn an_old_or_missing_cgroup_cannot_be_frozen_and_is_not_frozen() {
        let dir = tree(&[]);
        let placement = Placement(vec![place(dir.path(), true)]);
        assert!(placement.freezer().is_none());
        assert!(!placement.is_frozen());
        placement.thaw().unwrap();
    }

    #[test]
    fn swap_is_lifted_only_where_it_was_limited() {
        let dir = tree(&[("memory.swap.max", "0\n")]);
        let mut limited = place(dir.path(), true);
        limited.controllers = vec!["memory".to_owned()];
        let placement = Placement(vec![limited]);
        placement.let_swap(true).unwrap();
        assert_eq!(read(&dir, "memory.swap.max"), "max");
        placement.let_swap(false).unwrap();
        assert_eq!(read(&dir, "memory.swap.max"), "0");
        let bare = tree(&[]);
        Placement(vec![place(bare.path(), true)]).let_swap(true).unwrap();
        assert!(!bare.path().join("memory.swap.max").exists());
    }
}
