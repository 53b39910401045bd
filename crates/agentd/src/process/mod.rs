//! Processes and their journals.
//!
//! A process writes into two pipes. One task for each moves what comes into a file of the journal
//! (in the kernel, without a copy through the daemon) and tells the followers; a follower reads
//! the file from its own offset, so that no reader, however slow, holds up the process, another
//! reader, or memory. What is not yet in the file is still in the pipe: with a full disk nothing
//! is read, the process waits on its pipe, and nothing is lost.
//!
//! A process whose starter attends it is the exception: it waits for that one reader, and what
//! was read is let go ([`attendance`]).
//!
//! The end is told in order: the kernel says the process ended, what it had written until then
//! is moved into the journal, its status is written, and only then is it `exited`. What it left
//! running in the background may go on writing to the journal.

mod attendance;
mod end;
mod follow;
mod journal;
mod launch;
mod pump;
mod registry;
mod stdin;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use rclaude_types::{
    ExecId, Timestamp,
    agentd::{ProcessInfo, ProcessState},
};
use rustix::process::{Pid, Signal};
use tokio::sync::{Mutex, watch};

use attendance::Attendance;
pub(crate) use end::{GRACE, kill_session};
pub(crate) use follow::{Offsets, attend, follow};
use journal::{Journal, Logged};
pub(crate) use launch::{Command, identity, refusal, told};
pub(crate) use registry::Registry;
use stdin::StdinPipe;

use crate::sys;

/// A process, or what is left of it.
pub(crate) struct Process {
    pub(crate) id: ExecId,
    argv: Vec<String>,
    started_at: Timestamp,
    keep: bool,
    journal: Rc<Journal>,
    state: Cell<ProcessState>,
    /// How the kernel says it ended, while its last output is still on its way.
    ended: Cell<Option<Ended>>,
    /// Pipes whose output up to the end is not yet in the journal.
    undrained: Cell<u8>,
    timed_out: Cell<bool>,
    stdout_bytes: Cell<u64>,
    stderr_bytes: Cell<u64>,
    journal_full: Cell<bool>,
    attendance: Option<Attendance>,
    stdin_accepted: Cell<u64>,
    /// Held by who writes. `None` once closed.
    stdin: Mutex<Option<StdinPipe>>,
    /// Marked whenever anything above changes.
    changed: watch::Sender<()>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    at: Timestamp,
    out_of_memory: bool,
}

/// One of the two pipes out of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Process {
    /// As callers see it.
    pub(crate) fn info(&self) -> ProcessInfo {
        ProcessInfo {
            id: self.id.clone(),
            argv: self.argv.clone(),
            state: self.state.get(),
            started_at: self.started_at,
            stdout_bytes: self.stdout_bytes.get(),
            stderr_bytes: self.stderr_bytes.get(),
            stdin_accepted: self.stdin_accepted.get(),
            journal_full: self.journal_full.get(),
            keep: self.keep,
        }
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_final(&self) -> bool {
        self.state.get().is_final()
    }

    /// Whether its output waits for room on the disk.
    pub(crate) fn is_journal_full(&self) -> bool {
        self.journal_full.get()
    }

    /// Its process id, until the kernel has been told that it may use it again.
    fn pid(&self) -> Option<Pid> {
        match self.state.get() {
            ProcessState::Running { pid } if self.ended.get().is_none() => {
                Pid::from_raw(i32::try_from(pid).ok()?)
            }
            _ => None,
        }
    }

    /// Sends a signal to its group; KILL to all of its session. False if it is over.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = self.pid() else { return false };
        if signal == Signal::KILL {
            end::kill_session(pid);
        }
        // Fails only if the group is gone, which is what the signal was for or is about to show.
        let _gone = rustix::process::kill_process_group(pid, signal);
        true
    }

    fn bytes(&self, stream: Stream) -> &Cell<u64> {
        match stream {
            Stream::Stdout => &self.stdout_bytes,
            Stream::Stderr => &self.stderr_bytes,
        }
    }

    /// What the journal should say of it.
    fn logged(&self) -> Logged {
        let has_ended = self.is_final() && self.state.get() != ProcessState::Lost;
        Logged { info: self.info(), has_ended }
    }

    fn touch(&self) {
        self.changed.send_replace(());
    }

    /// Waits until nothing more will happen to it.
    pub(crate) async fn finished(self: &Rc<Self>) {
        let mut changes = self.changed.subscribe();
        while !self.is_final() {
            // The sender lives as long as `self`.
            let _never = changes.changed().await;
        }
    }

    /// Makes it `exited`, if the kernel said so and all its output is in the journal.
    fn finish_if_over(self: &Rc<Self>, registry: &Registry) {
        let (Some(ended), 0, false) = (self.ended.get(), self.undrained.get(), self.is_final())
        else {
            return;
        };
        self.state.set(ProcessState::Exited {
            code: ended.code,
            signal: ended.signal,
            at: ended.at,
            timed_out: self.timed_out.get(),
            out_of_memory: ended.out_of_memory,
        });
        if let Err(error) = self.journal.ended(&self.info()) {
            sys::say(&format!("agentd: status of {}: {error}\n", self.id));
            end::write_status_later(self);
        }
        self.touch();
        registry.prune();
    }
}

/// A place shared between the registry and its processes' tasks.
type Shared<T> = RefCell<T>;
