//! Freezing a sandbox, from the server.
//!
//! The server writes the freezer's files itself, as it reads the statistics: it has the right
//! wherever it could start a supervisor that made them, a request to the supervisor would cost a
//! hundred microseconds more, and the supervisor would stand still itself for as long as a busy
//! sandbox takes to. Nothing is written down: the kernel's file is the record, read by
//! [`observe`](super::provider::Inner::observe) in this server, the next one, or none.
//!
//! Everything here is called by who has the sandbox's gate (`LocalProvider::change`).

use std::{
    collections::HashSet,
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rclaude_types::SandboxId;

use super::{
    protocol::{Failure, FailureClass, While as _},
    provider::Inner,
    record::StoredState,
};

/// How long processes may take to stand still. Fifty that fight for two processors take a
/// hundredth of it; one that waits for a dead network disk takes for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sandboxes that stand still for the length of one piece of work. They count as running: whoever
/// looks meanwhile must not think that somebody paused them.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<HashSet<SandboxId>>);

impl Held {
    /// Whether a sandbox that runs is frozen to stay so. Entries come before the freeze and go
    /// after the thaw, so both questions get an answer of the same moment.
    pub(super) fn is_paused(&self, id: &SandboxId, state: &StoredState) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !held.contains(id) && state.cgroups.is_frozen()
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<SandboxId>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Inner {
    /// What is known of the sandbox, if it runs, frozen or not.
    pub(super) fn alive(&self, id: &SandboxId) -> io::Result<Option<StoredState>> {
        Ok(self.state(id)?.filter(|state| state.process.is_alive()))
    }

    /// Lets a running sandbox's processes stand still, and stay so.
    pub(super) fn freeze(&self, id: &SandboxId) -> Result<(), Failure> {
        let Some(state) = self.alive(id).during("read what is known of the sandbox")? else {
            return Err(Failure::new(FailureClass::Rejected, "the sandbox does not run"));
        };
        freeze(&state)
    }

    /// Lets a frozen sandbox go on; says whether there was one.
    pub(super) fn thaw(&self, id: &SandboxId) -> Result<bool, Failure> {
        let Some(state) = self.alive(id).during("read what is known of the sandbox")? else {
            return Ok(false);
        };
        if !state.cgroups.is_frozen() {
            return Ok(false);
        }
        // Before it runs, so that nobody who is killed here leaves it running without the limit.
        state.cgroups.let_swap(false).during("limit the sandbox's swap")?;
        state.cgroups.thaw().during("let the sandbox go on")?;
        Ok(true)
    }
}

/// Does something while the sandbox stands still, and says how long it did so for this.
///
/// A sandbox that was frozen stays frozen and one that does not run stays so, both with a duration
/// of zero; where there is no freezer, it goes on meanwhile. It is let go on also if `work` panics.
/// If the server is killed meanwhile, it stays frozen: whoever looks next sees it paused, and
/// resumes it if it should run.
pub(super) fn with_frozen<T>(
    inner: &Inner,
    id: &SandboxId,
    work: impl FnOnce() -> T,
) -> Result<(T, Duration), Failure> {
    let Some(state) = inner.alive(id).during("read what is known of the sandbox")? else {
        return Ok((work(), Duration::ZERO));
    };
    if state.cgroups.freezer().is_none() {
        return Ok((work(), Duration::ZERO));
    }
    if state.cgroups.is_frozen() {
        // Perhaps by one who was killed before the processes stood still.
        freeze(&state)?;
        return Ok((work(), Duration::ZERO));
    }
    let hold = Hold::begin(&inner.held, id, &state);
    let begun = Instant::now();
    freeze(&state)?;
    let done = work();
    hold.end()?;
    Ok((done, begun.elapsed()))
}

fn freeze(state: &StoredState) -> Result<(), Failure> {
    let Some(freezer) = state.cgroups.freezer() else {
        let text = "the sandbox is in no cgroup that can be frozen; `rclaude doctor` tells more";
        return Err(Failure::new(FailureClass::Unsupported, text));
    };
    freezer.freeze(PATIENCE).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure::new(
            FailureClass::Unavailable,
            format!(
                "its processes did not stand still within {} s, as when one waits for a disk that \
                 does not answer; they go on",
                PATIENCE.as_secs()
            ),
        ),
        _ => Failure::io("freeze the sandbox", &error),
    })
}

/// A sandbox that stands still until this ends.
struct Hold<'a> {
    held: &'a Held,
    id: &'a SandboxId,
    state: &'a StoredState,
    ended: bool,
}

impl<'a> Hold<'a> {
    fn begin(held: &'a Held, id: &'a SandboxId, state: &'a StoredState) -> Self {
        held.change(|all| {
            all.insert(id.clone());
        });
        Self { held, id, state, ended: false }
    }

    fn end(mut self) -> Result<(), Failure> {
        self.ended = true;
        self.state.cgroups.thaw().during("let the sandbox go on")
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // What went wrong is on its way to the caller, or a panic is.
            let _ = self.state.cgroups.thaw();
        }
        self.held.change(|all| {
            all.remove(self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, panic::AssertUnwindSafe};

    use super::*;
    use crate::{
        local::{
            LocalConfig,
            cgroup::{Place, Placement},
            record::{self, ProcessIdentity},
        },
        provider::Observed,
    };

    /// An engine with one sandbox, whose first process is this one and whose cgroup is files.
    struct Fake {
        inner: Inner,
        id: SandboxId,
        dir: tempfile::TempDir,
    }

    impl Fake {
        fn new(unified: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let inner = Inner::open(LocalConfig::new(dir.path().join("engine"), "none")).unwrap();
            for (file, text) in [("cgroup.freeze", "0\n"), ("cgroup.events", "frozen 1\n")] {
                fs::write(dir.path().join(file), text).unwrap();
            }
            let id = SandboxId::generate();
            let state = StoredState {
                process: ProcessIdentity::of(std::process::id().try_into().unwrap()).unwrap(),
                slot: 0,
                cgroups: Placement(vec![Place {
                    dir: dir.path().to_owned(),
                    unified,
                    controllers: Vec::new(),
                }]),
                redirect: false,
                whole: true,
                ended: None,
            };
            fs::create_dir(inner.engine.sandbox(&id).path()).unwrap();
            record::write(&inner.engine.sandbox(&id).state(), &state).unwrap();
            Self { inner, id, dir }
        }

        fn asked(&self) -> String {
            fs::read_to_string(self.dir.path().join("cgroup.freeze")).unwrap().trim().to_owned()
        }

        fn observed(&self) -> Observed {
            self.inner.observe(&self.id).unwrap()
        }
    }

    #[test]
    fn work_is_done_frozen_and_counts_as_running_for_who_looks_meanwhile() {
        let fake = Fake::new(true);
        let (seen, took) =
            with_frozen(&fake.inner, &fake.id, || (fake.asked(), fake.observed())).unwrap();
        assert_eq!(seen, ("1".to_owned(), Observed::Running));
        assert!(took > Duration::ZERO);
        assert_eq!((fake.asked().as_str(), fake.observed()), ("0", Observed::Running));
    }

    #[test]
    fn what_was_frozen_stays_frozen_and_what_panics_is_let_go_on() {
        let fake = Fake::new(true);
        let panicking = AssertUnwindSafe(|| {
            with_frozen(&fake.inner, &fake.id, || panic!("on purpose")).map(|((), _)| ())
        });
        std::panic::catch_unwind(panicking).unwrap_err();
        assert_eq!((fake.asked().as_str(), fake.observed()), ("0", Observed::Running));
        fake.inner.freeze(&fake.id).unwrap();
        let (seen, took) = with_frozen(&fake.inner, &fake.id, || fake.observed()).unwrap();
        assert_eq!((seen, took), (Observed::Paused, Duration::ZERO));
        assert_eq!((fake.asked().as_str(), fake.observed()), ("1", Observed::Paused));
        assert!(fake.inner.thaw(&fake.id).unwrap());
        assert!(!fake.inner.thaw(&fake.id).unwrap());
    }

    #[test]
    fn without_a_freezer_work_is_done_all_the_same_and_a_freeze_is_refused() {
        let fake = Fake::new(false);
        let done = with_frozen(&fake.inner, &fake.id, || 7).unwrap();
        assert_eq!(done, (7, Duration::ZERO));
        let refused = fake.inner.freeze(&fake.id).unwrap_err();
        assert_eq!(refused.class, FailureClass::Unsupported);
    }
}
