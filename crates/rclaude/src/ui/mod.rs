//! What the user sees. The only place that prints.
//!
//! Data goes to standard output and everything else to standard error, so that a pipe carries
//! what was asked for alone. Colours, the spinner and questions need a terminal; without one
//! there are plain lines, and whatever takes long is still named.

mod ask;
mod events;
mod input;
mod paint;
mod summary;
mod table;
mod text;

use std::{
    io::{self, IsTerminal, Write},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rclaude_types::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

pub(crate) use ask::{Asking, Reply, how_to_answer};
pub(crate) use events::{Piece, Renderer};
use input::Input;
pub(crate) use paint::Paint;
pub(crate) use summary::{diff_stat, token_words};
pub(crate) use table::table;
pub(crate) use text::{age, bytes, clean, clean_line, printable, short_id, span};

use crate::{config::Environment, exit::Failure};

/// How long something may take before the spinner names it.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same without a terminal, where it costs a line.
const PLAIN_PATIENCE: Duration = Duration::from_secs(2);
/// How often the spinner turns.
pub(crate) const TICK: Duration = Duration::from_millis(100);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// The user's terminal, or whatever stands in its place.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they vary independently")]
pub(crate) struct Ui {
    out: Paint,
    err: Paint,
    out_is_terminal: bool,
    err_is_terminal: bool,
    in_is_terminal: bool,
    /// The cursor of the terminal is not at the start of a line.
    midline: bool,
    /// What is there was written for somebody to type after it.
    prompted: bool,
    waiting: Option<Waiting>,
    drawn: bool,
    input: Option<Input>,
}

#[derive(Debug)]
struct Waiting {
    what: String,
    since: Instant,
    said: bool,
    counted: Option<Counter>,
}

/// Bytes done so far, told while something is waited for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    done: AtomicU64,
    /// 0 where it is not known.
    total: AtomicU64,
}

impl Counter {
    /// So many more are done.
    pub(crate) fn add(&self, count: u64) {
        self.0.done.fetch_add(count, Ordering::Relaxed);
    }

    /// So many are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.done.store(done, Ordering::Relaxed);
    }

    /// So many there are to do.
    pub(crate) fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    fn words(&self) -> String {
        let done = bytes(self.done());
        match self.0.total.load(Ordering::Relaxed) {
            0 => format!(" {done}"),
            total => format!(" {done} of {}", bytes(total)),
        }
    }
}

impl Ui {
    pub(crate) fn new(environment: &Environment) -> Self {
        let colours = environment.get("NO_COLOR").is_none()
            && environment.get("TERM").is_none_or(|term| term != "dumb");
        let out_is_terminal = io::stdout().is_terminal();
        let err_is_terminal = io::stderr().is_terminal();
        Self {
            out: Paint::new(colours && out_is_terminal),
            err: Paint::new(colours && err_is_terminal),
            out_is_terminal,
            err_is_terminal,
            in_is_terminal: io::stdin().is_terminal(),
            midline: false,
            prompted: false,
            waiting: None,
            drawn: false,
            input: None,
        }
    }

    /// Whether somebody can be asked.
    pub(crate) const fn can_ask(&self) -> bool {
        self.in_is_terminal && self.err_is_terminal
    }

    /// Whether data is read by a person.
    pub(crate) const fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether what is not data may have colours.
    pub(crate) const fn err_has_colours(&self) -> bool {
        self.err.is_on()
    }

    /// Colours for data.
    pub(crate) const fn out(&self) -> Paint {
        self.out
    }

    /// Colours for everything else.
    pub(crate) const fn err(&self) -> Paint {
        self.err
    }

    /// A renderer of events for this terminal.
    pub(crate) fn renderer(&self, verbose: bool) -> Renderer {
        Renderer::new(self.err, self.out_is_terminal, Self::width(), verbose)
    }

    /// Columns, or a width that reads well where there are none.
    pub(crate) fn width() -> usize {
        rustix::termios::tcgetwinsize(rustix::stdio::stderr())
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|columns| *columns >= 20)
            .unwrap_or(100)
    }

    /// Data, as it is.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.clear();
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        if self.out_is_terminal
            && let Some(last) = bytes.last()
        {
            self.midline = *last != b'\n';
        }
        Ok(())
    }

    /// Lines of data.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.start_line();
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        self.data(format!("{text}{newline}").as_bytes())
    }

    /// A value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|e| Failure::Failed(e.to_string()))?;
        self.print(&text)
    }

    /// Bytes for standard error, as they are. If nobody can read them nobody can be told.
    pub(crate) fn diagnostic(&mut self, bytes: &[u8]) {
        self.clear();
        let mut err = io::stderr().lock();
        let _ = err.write_all(bytes);
        let _ = err.flush();
        if self.err_is_terminal
            && let Some(last) = bytes.last()
        {
            self.midline = *last != b'\n';
        }
    }

    /// A line that is not data.
    pub(crate) fn say(&mut self, line: &str) {
        self.start_line();
        self.diagnostic(format!("{line}\n").as_bytes());
    }

    /// The same, dimmed: for those who want to know.
    pub(crate) fn note(&mut self, line: &str) {
        let line = self.err.dim(line);
        self.say(&line);
    }

    /// Something that went wrong without ending us.
    pub(crate) fn warn(&mut self, line: &str) {
        let word = self.err.yellow("warning:");
        self.say(&format!("{word} {line}"));
    }

    /// Text without a newline, before somebody types.
    pub(crate) fn prompt(&mut self, text: &str) {
        self.start_line();
        self.diagnostic(text.as_bytes());
        self.prompted = true;
    }

    /// What a renderer made of an event.
    pub(crate) fn show(&mut self, pieces: Vec<Piece>) -> Result<(), Failure> {
        if self.prompted && !pieces.is_empty() {
            self.start_line();
        }
        for piece in pieces {
            match piece {
                Piece::Out(text) => self.data(text.as_bytes())?,
                Piece::Err(text) => self.diagnostic(text.as_bytes()),
            }
        }
        Ok(())
    }

    /// Why a verb failed, with what to type next.
    pub(crate) fn failure(&mut self, failure: &Failure, json: bool) {
        if matches!(failure, Failure::PipeClosed) {
            return;
        }
        if json {
            self.say(&failure.to_json().to_string());
            return;
        }
        let word = self.err.red("error:");
        self.say(&format!("{word} {}", clean(&failure.to_string())));
        if let Some(hint) = failure.hint() {
            let word = self.err.dim("hint:");
            self.say(&format!("{word} {hint}"));
        }
    }

    /// Does something that may take a while, naming it if it does.
    pub(crate) async fn wait<T>(&mut self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        self.waiting_for(Some(what));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = ticks.tick() => self.tick(),
            }
        };
        self.waiting_for(None);
        done
    }

    /// The same for work that counts what it has done.
    pub(crate) async fn wait_counted<T>(
        &mut self,
        what: &str,
        counter: &Counter,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        self.waiting_for(Some(what));
        if let Some(waiting) = &mut self.waiting {
            waiting.counted = Some(counter.clone());
        }
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = ticks.tick() => self.tick(),
            }
        };
        self.waiting_for(None);
        done
    }

    /// The same for work that says what it is at.
    pub(crate) async fn wait_steps<T>(
        &mut self,
        steps: &watch::Receiver<&'static str>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        let done = loop {
            let step = *steps.borrow();
            self.waiting_for(Some(step));
            tokio::select! {
                biased;
                done = &mut work => break done,
                _ = ticks.tick() => self.tick(),
            }
        };
        self.waiting_for(None);
        done
    }

    /// Names what is waited for from now on; the caller calls [`Self::tick`].
    pub(crate) fn waiting_for(&mut self, what: Option<&str>) {
        if self.waiting.as_ref().map(|waiting| waiting.what.as_str()) == what {
            return;
        }
        self.clear();
        self.waiting = what.map(|what| Waiting {
            what: what.to_owned(),
            since: Instant::now(),
            said: false,
            counted: None,
        });
    }

    /// Turns the spinner.
    pub(crate) fn tick(&mut self) {
        let width = Self::width();
        let Some(waiting) = &mut self.waiting else { return };
        let waited = waiting.since.elapsed();
        if !self.err_is_terminal {
            if waited >= PLAIN_PATIENCE && !waiting.said {
                waiting.said = true;
                let line = format!("{} …", waiting.what);
                self.say(&line);
            }
            return;
        }
        if waited < PATIENCE || self.midline {
            return;
        }
        let turn = usize::try_from(waited.as_millis() / TICK.as_millis()).unwrap_or(0);
        let seconds = match waited.as_secs() {
            0 => String::new(),
            seconds => format!(" {seconds}s"),
        };
        let counted = waiting.counted.as_ref().map(Counter::words).unwrap_or_default();
        let room = width.saturating_sub(seconds.len() + counted.len() + 4);
        let what = text::cut(&waiting.what, room);
        let line = format!("{} {what}{counted}{seconds}", FRAMES[turn % FRAMES.len()]);
        let line = self.err.dim(&line);
        let mut err = io::stderr().lock();
        let _ = write!(err, "\r{line}\x1b[K");
        let _ = err.flush();
        self.drawn = true;
    }

    /// Asks for a yes or a no. Without a terminal the answer is `otherwise`.
    pub(crate) async fn confirm(&mut self, question: &str, otherwise: bool) -> bool {
        if !self.can_ask() {
            return otherwise;
        }
        let choices = if otherwise { "[Y/n]" } else { "[y/N]" };
        loop {
            self.prompt(&format!("{question} {choices} "));
            match self.line().await.as_deref().map(str::trim) {
                Some("") => return otherwise,
                Some("y" | "Y" | "yes") => return true,
                Some("n" | "N" | "no") => return false,
                Some(_) => self.say("Please type y or n."),
                None => return false,
            }
        }
    }

    /// The next line somebody types; `None` at the end of input. May be dropped before it is
    /// done: the line goes to whoever asks next.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = self.input.get_or_insert_with(Input::new).line().await;
        // Typing ends with Enter, which moves the cursor to the start of a line.
        self.midline &= line.is_none();
        self.prompted = false;
        line
    }

    fn start_line(&mut self) {
        self.clear();
        self.prompted = false;
        if self.midline {
            self.diagnostic(b"\n");
        }
    }

    /// Takes the spinner off the line.
    fn clear(&mut self) {
        if self.drawn {
            self.drawn = false;
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K");
            let _ = err.flush();
        }
    }
}

/// Now, for ages.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}
