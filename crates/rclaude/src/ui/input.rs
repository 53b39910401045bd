//! Lines somebody types.
//!
//! Reading a terminal blocks, so a thread does it, one line at a time and only when asked: while
//! nobody waits for a line an editor may have the terminal to itself. A line that was asked for
//! and came too late goes to whoever asks next.

use std::{io::BufRead, thread};

use tokio::sync::mpsc;

/// Reads lines of standard input.
#[derive(Debug)]
pub(crate) struct Input {
    wanted: std::sync::mpsc::Sender<()>,
    lines: mpsc::UnboundedReceiver<Option<String>>,
    asked: bool,
    ended: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        let (wanted, requests) = std::sync::mpsc::channel::<()>();
        let (typed, lines) = mpsc::unbounded_channel();
        // Not a task: a runtime waits for its blocking tasks, and this one waits for a person.
        thread::spawn(move || {
            while requests.recv().is_ok() {
                let mut line = String::new();
                let line = match std::io::stdin().lock().read_line(&mut line) {
                    Ok(1..) => Some(line),
                    _ => None,
                };
                if typed.send(line).is_err() {
                    return;
                }
            }
        });
        Self { wanted, lines, asked: false, ended: false }
    }

    /// The next line without its newline; `None` at the end of input, for ever. May be dropped
    /// before it is done: the line is not lost.
    pub(crate) async fn line(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        if !self.asked {
            self.asked = true;
            let _ = self.wanted.send(());
        }
        let line = self.lines.recv().await.flatten();
        self.asked = false;
        self.ended = line.is_none();
        line.map(|line| line.trim_end_matches(['\n', '\r']).to_owned())
    }
}
