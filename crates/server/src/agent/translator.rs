//! From an agent's output to signals, one state per process.

use rclaude_types::{EventBody, NoticeLevel};
use serde::{Deserialize, Serialize};

use super::{
    Signal, claude_code,
    lines::{Line, Lines, MAX_LINE_BYTES},
};

/// Understands one process's output. Serialised it is the state between two lines, small and
/// bounded whatever the agent prints; stored with the events made so far, it goes on exactly
/// there when given the output from [`offset`](Self::offset) on.
///
/// A newer server reads what an older one stored: a field added to the state has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Translator {
    lines: Lines,
    agent: Agent,
}

/// Which agent's language, with what was learnt so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Agent {
    ClaudeCode(claude_code::Translation),
}

impl Translator {
    pub(super) fn claude_code(translation: claude_code::Translation) -> Self {
        Self { lines: Lines::default(), agent: Agent::ClaudeCode(translation) }
    }

    /// How many bytes of the output the signals given so far cover. Where to read on from after
    /// a restart.
    pub fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// Takes the bytes that follow those given before, cut anywhere. Neighbouring parts of one
    /// message that arrive together become one event.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Signal> {
        let Self { lines, agent } = self;
        let mut signals = Signals::default();
        lines.feed(bytes, |line| agent.line(&line, &mut signals));
        signals.0
    }

    /// The output is over: an unfinished line counts too.
    pub fn finish(&mut self) -> Vec<Signal> {
        let Self { lines, agent } = self;
        let mut signals = Signals::default();
        lines.finish(|line| agent.line(&line, &mut signals));
        signals.0
    }
}

impl Agent {
    fn line(&mut self, line: &Line<'_>, signals: &mut Signals) {
        match (line, self) {
            (Line::Whole(line), Self::ClaudeCode(translation)) => translation.line(line, signals),
            (Line::TooLong(bytes), _) => signals.notice(
                NoticeLevel::Warning,
                "line_too_long",
                format!(
                    "The agent printed a line of {bytes} bytes. Lines above {MAX_LINE_BYTES} \
                     bytes are kept in its journal but not shown."
                ),
            ),
        }
    }
}

/// Signals being gathered.
#[derive(Debug, Default)]
pub(super) struct Signals(Vec<Signal>);

impl Signals {
    pub(super) fn push(&mut self, signal: Signal) {
        self.0.push(signal);
    }

    /// Adds an event; a part of a message is joined to the part before it.
    pub(super) fn event(&mut self, event: EventBody) {
        if let Some(Signal::Event(last)) = self.0.last_mut()
            && joined(last, &event)
        {
            return;
        }
        self.0.push(Signal::Event(event));
    }

    pub(super) fn notice(&mut self, level: NoticeLevel, code: &str, message: impl Into<String>) {
        self.event(EventBody::Notice { level, code: code.to_owned(), message: message.into() });
    }
}

/// Joins `next` to `last` where both are parts of the same message or thought.
fn joined(last: &mut EventBody, next: &EventBody) -> bool {
    match (last, next) {
        (
            EventBody::MessageDelta { id, text, parent },
            EventBody::MessageDelta { id: next_id, text: more, parent: next_parent },
        )
        | (
            EventBody::ThoughtDelta { id, text, parent },
            EventBody::ThoughtDelta { id: next_id, text: more, parent: next_parent },
        ) if id == next_id && parent == next_parent => {
            text.push_str(more);
            true
        }
        _ => false,
    }
}
