//! The user's own terminal, given over to a program elsewhere, and taken back whatever happens.

mod alternate;
mod leaving;

use std::io::{self, IsTerminal, Write};

use rclaude_types::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

pub(crate) use alternate::Alternate;
pub(crate) use leaving::Leaving;

/// Takes back what a program may have switched: the alternate screen, the scroll region, reports of
/// mouse, focus and paste, the cursor, colours. The cursor stays where it is: both sequences that
/// move it are between its being saved and restored.
const ORDINARY: &str = "\x1b7\x1b[?1049l\x1b7\x1b[r\x1b8\x1b[?1l\x1b>\x1b[?7h\x1b[?25h\x1b[?9l\x1b[?1000l\x1b[?1002l\
     \x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[4l\x1b(B\x0f\x1b[0 q\x1b[0m";

/// The terminal while it passes every key on. Becomes what it was when this is dropped.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Whether there is a terminal to type at and one to look at.
    pub(crate) fn is_possible() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Has every key passed on.
    pub(crate) fn begin() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // If it is gone there is nothing to restore.
        let _gone = show(ORDINARY.as_bytes());
        let _gone = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// How large the terminal is, within what a terminal elsewhere may be.
pub(crate) fn size() -> TerminalSize {
    let Ok(found) = tcgetwinsize(rustix::stdio::stdout()) else { return TerminalSize::default() };
    if found.ws_row == 0 || found.ws_col == 0 {
        return TerminalSize::default();
    }
    let within = |value: u16, range: std::ops::RangeInclusive<u16>| {
        value.clamp(*range.start(), *range.end())
    };
    TerminalSize {
        rows: within(found.ws_row, TerminalSize::ROWS),
        cols: within(found.ws_col, TerminalSize::COLS),
    }
}

/// Shows bytes as they are.
pub(crate) fn show(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
