//! Terminals: programs that believe somebody sits before them, whether or not somebody does.
//!
//! A terminal is the kernel's (a pair of `/dev/pts`); the daemon holds its far end. One task reads
//! what the program prints and gives it to two keepers: the [`journal`], the last megabytes as
//! they came, on disk, and the [`screen`], what a terminal would show now. The task never waits
//! for anybody: viewers read the journal from their own offsets, and one that lacks what is not
//! kept any more is given the screen and goes on from there. So a viewer that stalls holds up
//! neither the program nor other viewers nor memory.
//!
//! Invariants: a byte's offset never changes; a [`screen::Screen::snapshot`] stands for an offset
//! at which no character and no escape sequence is cut, and the bytes from there on are those of
//! the journal. What a viewer types is counted by its writer's name, so that typing it again after
//! a broken connection does nothing twice.

mod follow;
mod input;
mod journal;
mod launch;
mod pump;
mod registry;
mod screen;

use std::{
    cell::{Cell, RefCell},
    os::fd::OwnedFd,
    path::PathBuf,
    rc::Rc,
};

use rclaude_types::{
    TerminalId, TerminalSize, Timestamp,
    agentd::{ProcessState, TerminalInfo},
};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{io::unix::AsyncFd, sync::watch, time::Instant};

pub(crate) use follow::{Attach, follow};
use input::Writers;
use journal::Journal;
pub(crate) use registry::Terminals;
use screen::Screen;

use crate::{
    process::kill_session,
    refusal::{Doing, Refusal, Result},
    sys,
};

/// A terminal, or what is left of it.
pub(crate) struct Terminal {
    id: TerminalId,
    argv: Vec<String>,
    started_at: Timestamp,
    directory: PathBuf,
    state: Cell<ProcessState>,
    /// How the kernel says its program ended, while its last words are still to be read.
    ended: Cell<Option<ProcessState>>,
    size: Cell<TerminalSize>,
    /// The daemon's end; gone when the terminal is over.
    line: RefCell<Option<Line>>,
    journal: RefCell<Journal>,
    /// What is shown now; made from the journal where an earlier daemon had it.
    screen: RefCell<Option<Screen>>,
    printed: Cell<Option<(Instant, Timestamp)>>,
    viewers: Cell<u32>,
    writers: RefCell<Writers>,
    /// Marked whenever anything above changes.
    changed: watch::Sender<()>,
}

/// The kernel's terminal.
struct Line {
    /// What the daemon reads and writes.
    near: Rc<AsyncFd<OwnedFd>>,
    /// The program's end. Kept open so that the near one tells of no end while the program has
    /// closed its own for a moment.
    _far: OwnedFd,
}

impl Terminal {
    /// As callers see it.
    pub(crate) fn info(&self) -> TerminalInfo {
        let journal = self.journal.borrow();
        TerminalInfo {
            id: self.id.clone(),
            argv: self.argv.clone(),
            state: self.state.get(),
            size: self.size.get(),
            title: self.screen.borrow().as_ref().and_then(Screen::title),
            viewers: self.viewers.get(),
            first_offset: journal.first(),
            offset: journal.end(),
            started_at: self.started_at,
            printed_at: self.printed.get().map(|(_, at)| at),
        }
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn is_final(&self) -> bool {
        self.state.get().is_final()
    }

    fn pid(&self) -> Option<Pid> {
        match self.state.get() {
            ProcessState::Running { pid } if self.ended.get().is_none() => {
                Pid::from_raw(i32::try_from(pid).ok()?)
            }
            _ => None,
        }
    }

    fn near(&self) -> Option<Rc<AsyncFd<OwnedFd>>> {
        self.line.borrow().as_ref().map(|line| Rc::clone(&line.near))
    }

    /// Makes it so large and tells the program (SIGWINCH, by the kernel).
    pub(crate) fn resize(&self, size: TerminalSize) -> Result<()> {
        check_size(size)?;
        if self.is_final() {
            return Err(over());
        }
        if size == self.size.get() {
            return Ok(());
        }
        if let Some(near) = self.near() {
            tcsetwinsize(near.get_ref(), winsize(size))
                .doing(|| "resize the terminal".to_owned())?;
        }
        self.size.set(size);
        if let Some(screen) = &mut *self.screen.borrow_mut() {
            screen.resize(size);
        }
        self.write_down();
        self.touch();
        Ok(())
    }

    /// Tells its program that the terminal is gone, as a closed window does; with KILL, ends
    /// whatever of its session is left. False if it is over.
    fn hang_up(&self, signal: Signal) -> bool {
        let Some(pid) = self.pid() else { return false };
        if signal == Signal::KILL {
            kill_session(pid);
        }
        let _gone = kill_process_group(pid, signal);
        // What stands still could not heed it.
        let _gone = kill_process_group(pid, Signal::CONT);
        true
    }

    /// Waits until nothing more will happen to it.
    async fn finished(&self) {
        let mut changes = self.changed.subscribe();
        while !self.is_final() {
            let _never = changes.changed().await;
        }
    }

    /// Ends it in the record.
    fn finish(&self, state: ProcessState) {
        self.state.set(state);
        // Hangs up on whatever the program left behind.
        *self.line.borrow_mut() = None;
        self.write_down();
        self.touch();
    }

    /// Notes what it is for a later daemon. One that finds it running finds it lost.
    fn write_down(&self) {
        if let Err(error) = journal::write_info(&self.directory, &self.info()) {
            // A full disk; what it costs is the size or the exit status after a restart.
            sys::say(&format!("agentd: record of {}: {error}\n", self.id));
        }
    }

    fn touch(&self) {
        self.changed.send_replace(());
    }
}

fn check_size(size: TerminalSize) -> Result<()> {
    if size.is_possible() {
        return Ok(());
    }
    Err(Refusal::invalid("a terminal has 1 to 500 rows and 2 to 1000 columns"))
}

fn winsize(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

fn over() -> Refusal {
    Refusal::new(rclaude_types::ErrorCode::Conflict, "the terminal's program has ended")
}
