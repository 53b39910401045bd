//! All terminals the daemon knows, by name.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use rclaude_types::{
    ErrorCode, TerminalId,
    agentd::{ProcessState, TerminalInfo},
};
use rustix::process::{Pid, Signal, WaitStatus};
use tokio::sync::watch;

use super::{Journal, Terminal, journal::read_info};
use crate::{
    clock,
    process::GRACE,
    refusal::{Refusal, Result},
};

/// Terminals that are over and can still be read.
const KEPT: usize = 16;

/// The terminals, and where their journals are.
pub(crate) struct Terminals {
    state: PathBuf,
    by_name: RefCell<BTreeMap<TerminalId, Rc<Terminal>>>,
    by_pid: RefCell<HashMap<Pid, Rc<Terminal>>>,
    /// The sandbox is being stopped: what ends now does not end by itself.
    stopping: Cell<bool>,
}

impl Terminals {
    /// Finds what earlier daemons left under `state`; what was running then is lost.
    pub(crate) fn open(state: &Path) -> Self {
        let state = state.join("terminals");
        let entries = fs::read_dir(&state).into_iter().flatten().flatten();
        let earlier = entries.filter_map(|entry| {
            let directory = entry.path();
            let info = read_info(&directory).ok()?;
            let terminal = earlier(directory.clone(), info, Journal::open(&directory).ok()?);
            Some((terminal.id.clone(), Rc::new(terminal)))
        });
        let terminals = Self {
            by_name: RefCell::new(earlier.collect()),
            state,
            by_pid: RefCell::default(),
            stopping: Cell::new(false),
        };
        terminals.prune();
        terminals
    }

    pub(super) fn directory(&self, id: &TerminalId) -> PathBuf {
        self.state.join(id.as_str())
    }

    pub(super) fn get(&self, id: &TerminalId) -> Option<Rc<Terminal>> {
        self.by_name.borrow().get(id).cloned()
    }

    /// The terminal of that name, or the refusal that says there is none.
    pub(crate) fn find(&self, id: &TerminalId) -> Result<Rc<Terminal>> {
        self.get(id)
            .ok_or_else(|| Refusal::new(ErrorCode::TerminalNotFound, format!("no terminal {id}")))
    }

    pub(crate) fn all(&self) -> Vec<Rc<Terminal>> {
        self.by_name.borrow().values().cloned().collect()
    }

    pub(super) fn running(&self) -> usize {
        self.by_pid.borrow().len()
    }

    /// Seconds since one that runs last printed something.
    pub(crate) fn printed_seconds_ago(&self) -> Option<u64> {
        let terminals = self.by_pid.borrow();
        let printed = terminals.values().filter_map(|it| it.printed.get());
        printed.map(|(at, _)| at.elapsed().as_secs()).min()
    }

    pub(super) fn insert(&self, pid: Pid, terminal: &Rc<Terminal>) {
        self.by_pid.borrow_mut().insert(pid, Rc::clone(terminal));
        self.by_name.borrow_mut().insert(terminal.id.clone(), Rc::clone(terminal));
        self.prune();
    }

    /// Takes note of a child that ended, if it was a terminal's program.
    pub(crate) fn ended(&self, pid: Pid, status: WaitStatus) {
        let Some(terminal) = self.by_pid.borrow_mut().remove(&pid) else { return };
        let exited = ProcessState::Exited {
            code: status.exit_status(),
            signal: status.terminating_signal(),
            at: clock::now(),
            timed_out: false,
            out_of_memory: false,
        };
        terminal.ended.set(Some(if self.stopping.get() { ProcessState::Lost } else { exited }));
        terminal.touch();
    }

    /// Ends one: HUP, as when its window is closed, then KILL to all of its session. Returns when
    /// it is over.
    pub(crate) async fn end(&self, id: &TerminalId) -> Result<()> {
        let terminal = self.find(id)?;
        terminal.hang_up(Signal::HUP);
        if tokio::time::timeout(GRACE, terminal.finished()).await.is_err() {
            terminal.hang_up(Signal::KILL);
            let _stuck = tokio::time::timeout(GRACE, terminal.finished()).await;
        }
        Ok(())
    }

    /// Ends them all because the sandbox is stopped: their programs have not ended by themselves,
    /// and what they were at is lost.
    pub(crate) async fn lose_all(&self) {
        self.stopping.set(true);
        let running: Vec<_> = self.by_pid.borrow().values().cloned().collect();
        for terminal in &running {
            terminal.hang_up(Signal::HUP);
        }
        let finished = async {
            for terminal in &running {
                terminal.finished().await;
            }
        };
        let _late = tokio::time::timeout(GRACE, finished).await;
        for terminal in &running {
            if terminal.hang_up(Signal::KILL) {
                terminal.finish(ProcessState::Lost);
            }
        }
    }

    /// Forgets the oldest that are over, down to [`KEPT`].
    fn prune(&self) {
        let mut terminals = self.by_name.borrow_mut();
        let over = || terminals.values().filter(|it| it.is_final() && it.viewers.get() == 0);
        let surplus = over().count().saturating_sub(KEPT);
        let surplus: Vec<_> = over().take(surplus).map(|it| it.id.clone()).collect();
        for id in surplus {
            let _gone = fs::remove_dir_all(self.directory(&id));
            terminals.remove(&id);
        }
    }
}

/// A terminal of an earlier daemon.
fn earlier(directory: PathBuf, info: TerminalInfo, journal: Journal) -> Terminal {
    Terminal {
        id: info.id,
        argv: info.argv,
        started_at: info.started_at,
        directory,
        state: Cell::new(if info.state.is_final() { info.state } else { ProcessState::Lost }),
        ended: Cell::new(None),
        size: Cell::new(info.size),
        line: RefCell::new(None),
        journal: RefCell::new(journal),
        screen: RefCell::new(None),
        printed: Cell::new(None),
        viewers: Cell::new(0),
        writers: RefCell::default(),
        changed: watch::channel(()).0,
    }
}
