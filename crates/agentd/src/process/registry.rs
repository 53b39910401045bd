//! All processes the daemon knows, by name.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use rclaude_types::{ErrorCode, ExecId, agentd::ProcessState};
use rustix::process::Pid;
use tokio::sync::{Mutex, watch};

use super::{Journal, Process, Shared, Stream};
use crate::{
    metrics,
    refusal::{Doing, Refusal, Result},
    sys,
};

/// How many processes that are over keep their journals.
const KEPT: usize = 1000;

/// The processes, and where their journals are.
pub(crate) struct Registry {
    directory: PathBuf,
    /// By name: names sort by the time they were made, so the oldest are first.
    processes: Shared<BTreeMap<ExecId, Rc<Process>>>,
    by_pid: Shared<HashMap<Pid, Rc<Process>>>,
    oom_kills: Cell<u64>,
}

impl Registry {
    /// Opens the journals under `state`; what an earlier daemon left unfinished is `lost`.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let directory = state.join("processes");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<ExecId>().ok()) else {
                continue;
            };
            match earlier(id.clone(), Journal::at(entry.path())) {
                Ok(process) => drop(processes.insert(id, Rc::new(process))),
                Err(error) => sys::say(&format!("agentd: journal of {id}: {error}\n")),
            }
        }
        Ok(Self {
            directory,
            processes: Shared::new(processes),
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
        process.journal.remove().doing(|| "remove the journal".to_owned())?;
        self.processes.borrow_mut().remove(id);
        Ok(())
    }

    /// Where the journal of a new process goes.
    pub(super) fn journal_of(&self, id: &ExecId) -> PathBuf {
        self.directory.join(id.as_str())
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
fn earlier(id: ExecId, journal: Journal) -> io::Result<Process> {
    let (info, is_status) = journal.read()?;
    let state = if is_status { info.state } else { ProcessState::Lost };
    Ok(Process {
        id,
        argv: info.argv,
        started_at: info.started_at,
        keep: info.keep,
        state: Cell::new(state),
        ended: Cell::new(None),
        undrained: Cell::new(0),
        timed_out: Cell::new(false),
        stdout_bytes: Cell::new(journal.stream_bytes(Stream::Stdout)),
        stderr_bytes: Cell::new(journal.stream_bytes(Stream::Stderr)),
        journal_full: Cell::new(false),
        stdin_accepted: Cell::new(info.stdin_accepted),
        stdin: Mutex::new(None),
        changed: watch::channel(()).0,
        journal,
    })
}
