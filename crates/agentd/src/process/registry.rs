//! All processes the daemon knows, by name.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    rc::Rc,
};

use rclaude_types::{ErrorCode, ExecId, agentd::ProcessState};
use rustix::process::Pid;
use tokio::sync::{Mutex, watch};

use super::{
    Process, Shared, Stream,
    journal::{Journal, Logged},
};
use crate::{
    metrics,
    refusal::{Doing, Refusal, Result},
    sys,
};

/// How many processes that are over keep their journals.
const KEPT: usize = 1000;

/// The processes, and where their journals are.
pub(crate) struct Registry {
    pub(super) journal: Rc<Journal>,
    /// By name: names sort by the time they were made, so the oldest are first.
    processes: Shared<BTreeMap<ExecId, Rc<Process>>>,
    by_pid: Shared<HashMap<Pid, Rc<Process>>>,
    oom_kills: Cell<u64>,
}

impl Registry {
    /// Opens the journal under `state`; what an earlier daemon left unfinished is `lost`.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let (journal, logged) = Journal::open(state.join("processes"))?;
        let journal = Rc::new(journal);
        let earlier = |(id, logged)| (id, Rc::new(earlier(&journal, logged)));
        let processes = logged.into_iter().map(earlier).collect();
        Ok(Self {
            processes: Shared::new(processes),
            journal,
            by_pid: Shared::default(),
            oom_kills: Cell::new(metrics::oom_kills()),
        })
    }

    pub(crate) fn get(&self, id: &ExecId) -> Option<Rc<Process>> {
        self.processes.borrow().get(id).cloned()
    }

    /// The process of that name, or the refusal that says there is none.
    pub(crate) fn find(&self, id: &ExecId) -> Result<Rc<Process>> {
        self.get(id)
            .ok_or_else(|| Refusal::new(ErrorCode::ExecNotFound, format!("no process {id}")))
    }

    pub(crate) fn all(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().values().cloned().collect()
    }

    pub(crate) fn running(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().values().filter(|it| !it.is_final()).cloned().collect()
    }

    /// Forgets a process that is over, with its journal.
    pub(crate) fn forget(&self, id: &ExecId) -> Result<()> {
        let Some(process) = self.get(id) else { return Ok(()) };
        if !process.is_final() {
            return Err(Refusal::new(ErrorCode::Conflict, "the process is running; end it first"));
        }
        self.journal.forget(id).doing(|| "remove the journal".to_owned())?;
        let mut processes = self.processes.borrow_mut();
        processes.remove(id);
        if self.journal.is_long(processes.len())
            && let Err(error) = self.journal.rewrite(processes.values().map(|it| it.logged()))
        {
            sys::say(&format!("agentd: shortening the journal: {error}\n"));
        }
        Ok(())
    }

    pub(super) fn insert(&self, pid: Pid, process: &Rc<Process>) {
        self.by_pid.borrow_mut().insert(pid, Rc::clone(process));
        self.processes.borrow_mut().insert(process.id.clone(), Rc::clone(process));
    }

    pub(super) fn take_pid(&self, pid: Pid) -> Option<Rc<Process>> {
        self.by_pid.borrow_mut().remove(&pid)
    }

    /// Whether the count of processes ended for want of memory has grown since last asked.
    pub(super) fn saw_oom(&self, count: u64) -> bool {
        count > self.oom_kills.replace(count)
    }

    /// Forgets the oldest processes that are over, down to [`KEPT`].
    pub(super) fn prune(&self) {
        let surplus: Vec<ExecId> = {
            let processes = self.processes.borrow();
            let over = || processes.values().filter(|it| it.is_final() && !it.keep);
            let count = over().count().saturating_sub(KEPT);
            over().take(count).map(|it| it.id.clone()).collect()
        };
        for id in surplus {
            if let Err(error) = self.forget(&id) {
                sys::say(&format!("agentd: forgetting {id}: {error:?}\n"));
            }
        }
    }
}

/// A process of an earlier daemon.
fn earlier(journal: &Rc<Journal>, Logged { info, has_ended }: Logged) -> Process {
    let bytes = |stream| Cell::new(journal.stream_bytes(&info.id, stream));
    Process {
        stdout_bytes: bytes(Stream::Stdout),
        stderr_bytes: bytes(Stream::Stderr),
        journal: Rc::clone(journal),
        id: info.id,
        argv: info.argv,
        started_at: info.started_at,
        keep: info.keep,
        state: Cell::new(if has_ended { info.state } else { ProcessState::Lost }),
        ended: Cell::new(None),
        undrained: Cell::new(0),
        timed_out: Cell::new(false),
        journal_full: Cell::new(false),
        attendance: None,
        stdin_accepted: Cell::new(info.stdin_accepted),
        stdin: Mutex::new(None),
        changed: watch::channel(()).0,
    }
}
