//! What the door keeps for a sandbox: which processes and terminals go by which number, and the
//! watches that clients ask for news.
//!
//! None of it is needed to find a process: after a restart of the server its number is looked for
//! among what the daemon runs. What is lost then is its tag, and how much of its output was shown.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rclaude_sandbox::agentd;
use rclaude_types::{
    ExecId, SessionId, TerminalId,
    agentd::{ProcessState, TerminalInfo},
};

use super::{process::config::ProcessConfig, watch::poll::Poll};
use crate::api::e2b::connect::{Code, Error, Result};

/// Desks that are kept.
const DESKS: usize = 10_000;
/// Processes of one sandbox that are remembered.
const REMEMBERED: usize = 2000;
/// Watches of one sandbox that are asked for news.
const POLLS: usize = 200;

/// Every sandbox's desk.
#[derive(Debug, Default)]
pub(in crate::api::e2b) struct Desks(Mutex<HashMap<SessionId, Arc<Desk>>>);

impl Desks {
    /// The sandbox's desk.
    pub(super) fn of(&self, session: &SessionId) -> Arc<Desk> {
        let mut desks = lock(&self.0);
        if desks.len() >= DESKS {
            // Those of sandboxes long gone; what is in use is kept, and the rest made again.
            desks.retain(|_, desk| Arc::strong_count(desk) > 1);
        }
        desks.entry(session.clone()).or_default().clone()
    }

    /// Forgets what was kept for a sandbox that is gone.
    pub(in crate::api::e2b) fn clear(&self, session: &SessionId) {
        lock(&self.0).remove(session);
    }
}

/// One sandbox's desk.
#[derive(Debug, Default)]
pub(in crate::api::e2b) struct Desk {
    processes: Mutex<BTreeMap<u32, Arc<Known>>>,
    polls: Mutex<HashMap<String, Arc<Poll>>>,
}

/// What the daemon calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Process(ExecId),
    Terminal(TerminalId),
}

/// A process or terminal that goes by a number.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) pid: u32,
    pub(super) name: Name,
    pub(super) tag: Option<String>,
    pub(super) config: ProcessConfig,
    /// Offsets of output that was shown to whoever follows; those who come next go on there.
    shown: Mutex<(u64, u64)>,
    /// Where the next byte of its input stands; writes take turns.
    pub(super) input: tokio::sync::Mutex<Option<u64>>,
}

impl Known {
    pub(super) fn new(
        pid: u32,
        name: Name,
        tag: Option<String>,
        config: ProcessConfig,
        input: Option<u64>,
    ) -> Arc<Self> {
        let (shown, input) = (Mutex::default(), tokio::sync::Mutex::new(input));
        Arc::new(Self { pid, name, tag, config, shown, input })
    }

    /// How much of standard output (or of what a terminal prints) and of standard error was shown.
    pub(super) fn shown(&self) -> (u64, u64) {
        *lock(&self.shown)
    }

    /// Notes that so much was shown.
    pub(super) fn show(&self, stdout: u64, stderr: u64) {
        let mut shown = lock(&self.shown);
        *shown = (shown.0.max(stdout), shown.1.max(stderr));
    }
}

/// How a client names a process.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Selector {
    Pid(u32),
    Tag(String),
}

impl Desk {
    /// Remembers what was just started.
    pub(super) fn remember(&self, known: Arc<Known>) {
        let mut processes = lock(&self.processes);
        if processes.len() >= REMEMBERED {
            // Those remembered are a convenience: the daemon is asked about the rest.
            processes.pop_first();
        }
        processes.insert(known.pid, known);
    }

    /// What is remembered of a number, if it is still that process's.
    pub(super) fn remembered(&self, pid: u32, name: &Name) -> Option<Arc<Known>> {
        lock(&self.processes).get(&pid).filter(|known| known.name == *name).cloned()
    }

    fn selected(&self, selector: &Selector) -> Option<Arc<Known>> {
        let processes = lock(&self.processes);
        match selector {
            Selector::Pid(pid) => processes.get(pid).cloned(),
            Selector::Tag(tag) => {
                processes.values().rev().find(|it| it.tag.as_ref() == Some(tag)).cloned()
            }
        }
    }

    /// The process that a client means.
    pub(super) async fn find(
        &self,
        client: &agentd::Client,
        selector: Option<Selector>,
    ) -> Result<Arc<Known>> {
        let selector = selector.ok_or_else(|| Error::invalid("process: which one is missing"))?;
        if let Some(known) = self.selected(&selector) {
            return Ok(known);
        }
        let missing = match selector {
            Selector::Pid(pid) => {
                if let Some(known) = running(client, pid).await? {
                    self.remember(known.clone());
                    return Ok(known);
                }
                format!("process with pid {pid} not found")
            }
            Selector::Tag(tag) => format!("process with tag {tag} not found"),
        };
        Err(Error::new(Code::NotFound, missing))
    }

    /// Keeps a watch that its client asks for news.
    pub(super) fn keep(&self, id: &str, poll: Arc<Poll>) -> Result<()> {
        let mut polls = lock(&self.polls);
        polls.retain(|_, poll| !poll.is_forgotten());
        if polls.len() >= POLLS {
            let text = "there are as many watchers as may be; remove some";
            return Err(Error::new(Code::ResourceExhausted, text));
        }
        polls.insert(id.to_owned(), poll);
        Ok(())
    }

    /// A watch that is kept.
    pub(super) fn kept(&self, id: &str) -> Result<Arc<Poll>> {
        lock(&self.polls).get(id).cloned().ok_or_else(|| no_watcher(id))
    }

    /// Forgets a watch.
    pub(super) fn drop_watch(&self, id: &str) -> Result<()> {
        lock(&self.polls).remove(id).map(drop).ok_or_else(|| no_watcher(id))
    }
}

/// A process or terminal of this number that runs, whoever started it.
async fn running(client: &agentd::Client, wanted: u32) -> Result<Option<Arc<Known>>> {
    let is_it = |state| matches!(state, ProcessState::Running { pid } if pid == wanted);
    let processes = client.processes().await?;
    if let Some(found) = processes.into_iter().find(|it| is_it(it.state)) {
        let (config, input) = (ProcessConfig::told(&found.argv), Some(found.stdin_accepted));
        let known = Known::new(wanted, Name::Process(found.id), None, config, input);
        known.show(found.stdout_bytes, found.stderr_bytes);
        return Ok(Some(known));
    }
    let terminals: Vec<TerminalInfo> = client.terminals().await?;
    Ok(terminals.into_iter().find(|it| is_it(it.state)).map(|found| {
        let config = ProcessConfig::told(&found.argv);
        let known = Known::new(wanted, Name::Terminal(found.id), None, config, None);
        known.show(found.offset, 0);
        known
    }))
}

fn no_watcher(id: &str) -> Error {
    Error::new(Code::NotFound, format!("watcher with id {id} not found"))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
