//! One channel of a connection: what its client prepared, and what then runs on it.

use std::{collections::BTreeMap, sync::Arc};

use rclaude_types::{SessionId, TerminalSize};
use russh::{
    ChannelWriteHalf,
    server::{Handle, Msg},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    input::{self, Excess},
    outlet::Outlet,
};
use crate::session::manager::{Presence, SessionManager};

/// Variables that a client may set, and bytes of each value.
const MAX_VARIABLES: usize = 64;
const MAX_VALUE: usize = 1024;

/// The longest name of a kind of terminal.
const MAX_TERM: usize = 64;

/// Signals that may wait to be passed on.
const MAX_SIGNALS: usize = 16;

/// A channel of the kind `session`.
pub(super) struct Channel {
    /// Until something runs on it.
    half: Option<ChannelWriteHalf<Msg>>,
    env: BTreeMap<String, String>,
    terminal: Option<TerminalSize>,
    running: Option<Running>,
}

/// The client's side of what runs.
struct Running {
    /// Dropped with the channel: then the client has gone. Before the rest, so that this is not
    /// taken for an end of input.
    _here: DropGuard,
    /// `None` after the client's end of input.
    input: Option<input::Sender>,
    size: watch::Sender<TerminalSize>,
    signals: mpsc::Sender<i32>,
}

/// The session that a connection is for.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) sessions: SessionManager,
    pub(super) session: SessionId,
    /// Keeps it awake.
    pub(super) _presence: Arc<Presence>,
}

/// What a channel's work is done with.
pub(super) struct Work {
    pub(super) out: Outlet,
    pub(super) input: input::Receiver,
    pub(super) env: BTreeMap<String, String>,
    pub(super) size: watch::Receiver<TerminalSize>,
    pub(super) signals: mpsc::Receiver<i32>,
    /// Cancelled when the client closes the channel or is gone.
    pub(super) gone: CancellationToken,
}

impl Channel {
    pub(super) fn new(half: ChannelWriteHalf<Msg>) -> Self {
        Self { half: Some(half), env: BTreeMap::new(), terminal: None, running: None }
    }

    /// Sets a variable, if it is one of those that say how a user likes to read.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let may = matches!(name, "LANG" | "LANGUAGE" | "COLORTERM" | "TERM") || is_locale(name);
        let fits = value.len() <= MAX_VALUE && !value.chars().any(char::is_control);
        let allowed = may && fits && self.env.len() < MAX_VARIABLES;
        if allowed {
            self.env.insert(name.to_owned(), value.to_owned());
        }
        allowed
    }

    /// Wants a terminal for what will run.
    pub(super) fn want_terminal(&mut self, term: &str, size: TerminalSize) -> bool {
        if self.half.is_none() {
            return false;
        }
        self.terminal = Some(size);
        if !term.is_empty() && term.len() <= MAX_TERM {
            self.set("TERM", term);
        }
        true
    }

    /// Whether what runs is to have a terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Begins the one thing that runs on it; `None` if there is one already.
    pub(super) fn begin(&mut self, handle: Handle, excess: &Excess) -> Option<Work> {
        let out = Outlet::new(self.half.take()?, handle);
        let (to, input) = input::queue(excess.clone());
        let (size_to, size) = watch::channel(self.terminal.unwrap_or_default());
        let (signals_to, signals) = mpsc::channel(MAX_SIGNALS);
        let gone = CancellationToken::new();
        self.running = Some(Running {
            _here: gone.clone().drop_guard(),
            input: Some(to),
            size: size_to,
            signals: signals_to,
        });
        let env = std::mem::take(&mut self.env);
        Some(Work { out, input, env, size, signals, gone })
    }

    /// Where the client's bytes go, while somebody may read them.
    pub(super) fn input(&self) -> Option<input::Sender> {
        self.running.as_ref()?.input.clone()
    }

    /// The client sends no more.
    pub(super) fn end_input(&mut self) {
        if let Some(running) = &mut self.running {
            running.input = None;
        }
    }

    /// The client's window changed.
    pub(super) fn resize(&mut self, size: TerminalSize) {
        if let Some(running) = &self.running {
            running.size.send_replace(size);
        } else if self.terminal.is_some() {
            self.terminal = Some(size);
        }
    }

    /// Passes a signal on; one too many is dropped.
    pub(super) fn signal(&self, number: i32) {
        if let Some(running) = &self.running {
            let _ = running.signals.try_send(number);
        }
    }
}

fn is_locale(name: &str) -> bool {
    name.strip_prefix("LC_").is_some_and(|rest| {
        !rest.is_empty() && rest.len() <= 32 && rest.bytes().all(|it| it.is_ascii_uppercase())
    })
}

/// A size that a terminal can have, as near to what a client says as may be.
pub(super) fn size(cols: u32, rows: u32) -> TerminalSize {
    let default = TerminalSize::default();
    let within = |value: u32, default: u16, least: u16, most: u16| match value {
        0 => default,
        value => u16::try_from(value).unwrap_or(most).clamp(least, most),
    };
    TerminalSize {
        rows: within(rows, default.rows, 1, 500),
        cols: within(cols, default.cols, 2, 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_is_a_size_that_a_terminal_can_have() {
        for (cols, rows) in [(0, 0), (1, 1), (80, 24), (u32::MAX, u32::MAX), (70_000, 3)] {
            assert!(size(cols, rows).is_possible(), "{cols} × {rows}");
        }
        assert_eq!(size(132, 50), TerminalSize { rows: 50, cols: 132 });
    }

    #[test]
    fn locales_are_told_from_other_variables() {
        assert!(is_locale("LC_ALL") && is_locale("LC_TIME"));
        assert!(!is_locale("LC_") && !is_locale("LD_PRELOAD") && !is_locale("LC_x=y"));
    }
}
