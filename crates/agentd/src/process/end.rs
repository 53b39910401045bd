//! How processes come to their end: reaped, timed out, killed with all they started.

use std::{fs, rc::Rc, time::Duration};

use rclaude_types::ExecId;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use super::{Ended, Process, Registry};
use crate::{clock, metrics};

/// Between the request to end and the end.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Between two attempts to write a status to a full disk.
const STATUS_PAUSE: Duration = Duration::from_millis(250);

impl Registry {
    /// Takes note of every child that has ended, also of orphans nobody asked for. Those that are
    /// no processes of this registry's are told to `other`.
    pub(crate) fn reap(&self, other: impl Fn(Pid, WaitStatus)) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            match self.take_pid(pid) {
                Some(process) => self.ended(&process, status),
                None => other(pid, status),
            }
        }
    }

    fn ended(&self, process: &Rc<Process>, status: WaitStatus) {
        let signal = status.terminating_signal();
        let killed = signal == Some(Signal::KILL.as_raw());
        let ended = Ended {
            code: status.exit_status(),
            signal,
            at: clock::now(),
            out_of_memory: killed && self.saw_oom(metrics::oom_kills()),
        };
        process.ended.set(Some(ended));
        if let Ok(mut stdin) = process.stdin.try_lock() {
            // Whoever is writing finds out by the pipe.
            *stdin = None;
        }
        process.finish_if_over(self);
        process.touch();
    }

    /// Ends one process: TERM to its group, then KILL to its session. Returns when it is over.
    pub(crate) async fn end(&self, id: &ExecId) {
        let Some(process) = self.get(id) else { return };
        process.signal(Signal::TERM);
        if tokio::time::timeout(GRACE, process.finished()).await.is_err() {
            process.signal(Signal::KILL);
        }
    }

    /// Ends them all, those that nobody knows of included.
    pub(crate) async fn end_all(&self) {
        let running = self.running();
        for process in &running {
            process.signal(Signal::TERM);
        }
        let finished = async {
            for process in &running {
                process.finished().await;
            }
        };
        let _late = tokio::time::timeout(GRACE, finished).await;
        for process in &running {
            process.signal(Signal::KILL);
        }
        if rustix::process::getpid().is_init() {
            let _none = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
        }
    }
}

/// Kills every process of a session, wherever its group is.
pub(crate) fn kill_session(leader: Pid) {
    let Ok(entries) = fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if session(&stat) == Some(leader.as_raw_nonzero().get())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// The session in a line of `/proc/<pid>/stat`: the fourth field after the name, which is in
/// parentheses and may hold anything.
fn session(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Keeps trying to write a status that did not go to the disk.
pub(super) fn write_status_later(process: &Rc<Process>) {
    let process = Rc::downgrade(process);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(STATUS_PAUSE).await;
            // Forgotten meanwhile: then its journal is gone too.
            let Some(process) = process.upgrade() else { return };
            if process.journal.ended(&process.info()).is_ok() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_past_any_name() {
        assert_eq!(session("7 (a) b (c) S 1 7 42 0 -1"), Some(42));
        assert_eq!(session(""), None);
    }
}
