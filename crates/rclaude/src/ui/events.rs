//! Events as text: a pure function from entries of the log to pieces of output.
//!
//! The assistant's words are data and go to standard output; all else goes to standard error. A
//! message that streamed in parts is not said again when it follows whole: what was shown of it
//! is remembered by its id, and only what is missing is added.

mod asked;
mod life;

use std::collections::HashMap;

use rclaude_types::{
    Event, EventBody, FileDiff, NoticeLevel, PlanEntry, PlanStatus, Role, ToolKind,
};

use super::{
    Paint,
    summary::{token_words, turn_line},
    text::{clean, clean_line, cut, thousands},
};

/// Lines of a tool's output that are shown without `--verbose`.
const OUTPUT_LINES: usize = 4;
/// Lines of a failed tool's output that are shown: they say why.
const ERROR_LINES: usize = 10;
/// Lines of a diff that are shown.
const DIFF_LINES: usize = 24;

/// Something to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Data.
    Out(String),
    /// Everything else.
    Err(String),
}

/// Turns events into text. Remembers what it began.
#[derive(Debug)]
pub(crate) struct Renderer {
    err: Paint,
    /// Somebody watches: thoughts stream, and control characters are kept from the terminal.
    terminal: bool,
    width: usize,
    verbose: bool,
    /// Parts are kept back, as their wholes follow shortly.
    replaying: bool,
    /// The text that is being written, and whether its last line is finished.
    open: Option<Open>,
    /// What was shown of messages that did not come whole yet.
    shown: HashMap<String, String>,
    /// Parts that were kept back.
    held: Option<(String, String)>,
    tools: HashMap<String, ToolKind>,
    /// The session's name, for commands that are suggested.
    session: Option<String>,
    /// Prompts that their sender need not be told of.
    own_prompts: Vec<String>,
    /// What the agent was told with the last no: its tool answers with the same words.
    denial: Option<String>,
}

#[derive(Debug)]
struct Open {
    id: String,
    thought: bool,
    at_line_start: bool,
}

impl Renderer {
    pub(crate) fn new(err: Paint, terminal: bool, width: usize, verbose: bool) -> Self {
        Self {
            err,
            terminal,
            width,
            verbose,
            replaying: false,
            open: None,
            shown: HashMap::new(),
            held: None,
            tools: HashMap::new(),
            session: None,
            own_prompts: Vec::new(),
            denial: None,
        }
    }

    /// Says that what follows is history: parts of messages are kept back until
    /// [`Self::caught_up`].
    pub(crate) fn replay(&mut self) {
        self.replaying = true;
    }

    /// Says that history is over; a message that was being written meanwhile goes on.
    pub(crate) fn caught_up(&mut self) -> Vec<Piece> {
        self.replaying = false;
        let mut pieces = Vec::new();
        if let Some((id, text)) = self.held.take() {
            self.part(&mut pieces, &id, &text, false);
        }
        pieces
    }

    /// Says what the session is called now.
    pub(crate) fn call(&mut self, session: &str) {
        self.session = Some(clean_line(session));
    }

    /// Leaves out the echo of a prompt that was typed here.
    pub(crate) fn hide_prompt(&mut self, text: &str) {
        self.own_prompts.push(text.to_owned());
    }

    /// Ends a line that was begun, before something else is written.
    pub(crate) fn close(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.close_into(&mut pieces);
        pieces
    }

    /// What to write for an event.
    pub(crate) fn event(&mut self, event: &Event) -> Vec<Piece> {
        let mut pieces = Vec::new();
        match &event.body {
            EventBody::MessageDelta { id, text, parent: None } if self.replaying => {
                match &mut self.held {
                    Some((held, so_far)) if held == id => so_far.push_str(text),
                    held => *held = Some((id.clone(), text.clone())),
                }
            }
            EventBody::MessageDelta { id, text, parent: None } => {
                self.part(&mut pieces, id, text, false);
            }
            EventBody::ThoughtDelta { id, text, parent: None }
                if self.terminal && !self.replaying =>
            {
                self.part(&mut pieces, id, text, true);
            }
            EventBody::Message { id, role: Role::Assistant, text, parent: None } => {
                self.held.take_if(|(held, _)| held == id);
                self.whole(&mut pieces, id, text, false);
            }
            EventBody::Thought { id, text, parent: None } if self.terminal || self.verbose => {
                self.whole(&mut pieces, id, text, true);
            }
            body => {
                let text = self.block(body);
                if !text.is_empty() {
                    self.close_into(&mut pieces);
                    pieces.push(Piece::Err(format!("{text}\n")));
                }
            }
        }
        pieces
    }

    /// A part of a text, written as it comes.
    fn part(&mut self, pieces: &mut Vec<Piece>, id: &str, text: &str, thought: bool) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|open| open.id != id || open.thought != thought) {
            self.close_into(pieces);
        }
        self.shown.entry(id.to_owned()).or_default().push_str(text);
        let at_line_start = text.ends_with('\n');
        self.open = Some(Open { id: id.to_owned(), thought, at_line_start });
        pieces.push(self.words(text, thought));
    }

    /// A text that is whole: what was not shown of it, and the end of its line.
    fn whole(&mut self, pieces: &mut Vec<Piece>, id: &str, text: &str, thought: bool) {
        let shown = self.shown.remove(id).unwrap_or_default();
        let rest = match text.strip_prefix(shown.as_str()) {
            Some(rest) => rest,
            // We came when it was being written: its beginning is history.
            None if text.ends_with(&shown) => "",
            None => {
                self.close_into(pieces);
                text
            }
        };
        self.part(pieces, id, rest, thought);
        self.shown.remove(id);
        self.close_into(pieces);
    }

    fn words(&self, text: &str, thought: bool) -> Piece {
        match (thought, self.terminal) {
            (true, _) => Piece::Err(self.err.dim(&clean(text))),
            (false, true) => Piece::Out(clean(text)),
            (false, false) => Piece::Out(text.to_owned()),
        }
    }

    fn close_into(&mut self, pieces: &mut Vec<Piece>) {
        if let Some(open) = self.open.take()
            && !open.at_line_start
        {
            let newline = "\n".to_owned();
            pieces.push(if open.thought { Piece::Err(newline) } else { Piece::Out(newline) });
        }
    }

    /// Whole lines for an event that is not streamed, without the last newline; empty for what
    /// nobody need see.
    fn block(&mut self, body: &EventBody) -> String {
        let paint = self.err;
        match body {
            EventBody::SessionCreated { name, origin } => self.created(name, origin.as_ref()),
            EventBody::StatusChanged { status, reason } => self.status(*status, reason.as_deref()),
            EventBody::TurnQueued { text, steer } => self.prompt(text, *steer),
            EventBody::Message { role: Role::User, text, parent: None, .. } if self.verbose => {
                self.prompt(text, false)
            }
            EventBody::Message { text, parent: Some(_), role: Role::Assistant, .. } => {
                self.sub_agent(text)
            }
            EventBody::TurnEnded { outcome, failure, tokens, cost, diff } => turn_line(
                paint,
                *outcome,
                failure.as_deref(),
                *tokens,
                &cost.to_string(),
                diff.as_ref(),
            ),
            EventBody::AgentStarted { version, model, resumed, .. } if self.verbose => {
                let word = if *resumed { "agent resumed" } else { "agent started" };
                let parts = [version, model].map(|part| part.clone().unwrap_or_default());
                paint.dim(&clean_line(&format!("{word} {}", parts.join(" "))))
            }
            EventBody::AgentExited { code, signal, reason } => {
                self.agent_exited(*code, *signal, reason.as_deref())
            }
            EventBody::ToolCall { id, name, kind, title, input, parent, .. } => {
                self.tools.insert(id.clone(), *kind);
                self.tool_call(name, title, input, parent.is_some())
            }
            EventBody::ToolResult { id, is_error, output, diffs, parent } => {
                let kind = self.tools.remove(id);
                let denial = self.denial.take();
                if *is_error && denial.is_some_and(|told| told.trim() == output.trim()) {
                    return String::new();
                }
                self.tool_result(kind, *is_error, output, diffs, parent.is_some())
            }
            EventBody::Plan { entries } => self.plan(entries),
            EventBody::ApprovalRequested { approval } => self.approval(approval),
            EventBody::ApprovalResolved { state, message, .. } => {
                self.denial.clone_from(message);
                self.resolved(*state, message.as_deref())
            }
            EventBody::AgentUsage { tokens, context_tokens, .. } if self.verbose => {
                let context = context_tokens
                    .map(|tokens| format!(", {} in context", thousands(tokens)))
                    .unwrap_or_default();
                paint.dim(&format!("agent counts {}{context}", token_words(*tokens)))
            }
            EventBody::SettingsChanged { model, permission_mode } => {
                let model = model.as_ref().map(|model| format!("model {}", clean_line(model)));
                let mode = permission_mode.map(|mode| format!("permission mode {}", word(mode)));
                let parts: Vec<_> = [model, mode].into_iter().flatten().collect();
                paint.dim(&format!("now {}", parts.join(", ")))
            }
            EventBody::ExecStarted { command, .. } => {
                paint.dim(&cut(&format!("$ {}", clean_line(&command.join(" "))), self.width))
            }
            EventBody::ExecEnded { exit_code: Some(0), .. } => String::new(),
            EventBody::ExecEnded { exit_code, signal, .. } => {
                paint.dim(&format!("  {}", ending(*exit_code, *signal)))
            }
            EventBody::CheckpointCreated { checkpoint } => self.checkpoint(checkpoint),
            EventBody::Rewound { to, before, scope } => self.rewound(to.as_ref(), before, *scope),
            EventBody::Forked { checkpoint, session } => self.forked(checkpoint, session),
            EventBody::Notice { level, message, .. } => {
                let message = clean(message);
                match level {
                    NoticeLevel::Info => paint.dim(&format!("note: {message}")),
                    NoticeLevel::Warning => format!("{} {message}", paint.yellow("warning:")),
                    NoticeLevel::Error => format!("{} {message}", paint.red("error:")),
                }
            }
            EventBody::Raw { line } if self.verbose => {
                paint.dim(&cut(&format!("raw {}", clean_line(&line.to_string())), self.width))
            }
            _ => String::new(),
        }
    }

    fn prompt(&mut self, text: &str, steer: bool) -> String {
        if let Some(own) = self.own_prompts.iter().position(|own| own == text) {
            self.own_prompts.remove(own);
            return String::new();
        }
        let mark = self.err.bold(if steer { "»" } else { "›" });
        let text = clean(text);
        match text.trim_end().split_once('\n') {
            Some((first, rest)) => {
                format!("{mark} {}\n{}", self.err.bold(first), indented(rest, "  "))
            }
            None => format!("{mark} {}", self.err.bold(text.trim_end())),
        }
    }

    fn sub_agent(&self, text: &str) -> String {
        let text = clean(text);
        let limit = if self.verbose { usize::MAX } else { 1 };
        self.lines(&text, "  │ ", limit)
    }

    fn agent_exited(&self, code: Option<i32>, signal: Option<i32>, reason: Option<&str>) -> String {
        match (code, reason) {
            (Some(0), _) if !self.verbose => String::new(),
            (_, Some(reason)) => {
                format!("{} the agent ended: {}", self.err.yellow("warning:"), clean_line(reason))
            }
            (_, None) => self.err.dim(&format!("the agent ended, {}", ending(code, signal))),
        }
    }

    fn tool_call(&self, name: &str, title: &str, input: &serde_json::Value, inner: bool) -> String {
        let indent = if inner { "  │ " } else { "" };
        let title = clean_line(title);
        let title = if title.is_empty() { clean_line(name) } else { title };
        let width = self.width.saturating_sub(indent.len() + 2);
        let line = format!("{}{} {}", self.err.dim(indent), self.err.cyan("●"), cut(&title, width));
        if !self.verbose {
            return line;
        }
        let input = serde_json::to_string_pretty(input).unwrap_or_default();
        let input = self.lines(&clean(&input), &format!("{indent}  "), usize::MAX);
        format!("{line} {}\n{input}", self.err.dim(&format!("({})", clean_line(name))))
    }

    fn tool_result(
        &self,
        kind: Option<ToolKind>,
        is_error: bool,
        output: &str,
        diffs: &[FileDiff],
        inner: bool,
    ) -> String {
        if inner && !self.verbose {
            return String::new();
        }
        let indent = if inner { "  │ " } else { "  " };
        let output = clean(output);
        let output = output.trim_end();
        if is_error {
            let limit = if self.verbose { usize::MAX } else { ERROR_LINES };
            let first = if output.is_empty() { "it failed" } else { output };
            return self.painted(first, indent, limit, |line| self.err.red(line));
        }
        let mut blocks = Vec::new();
        for diff in diffs {
            blocks.push(self.file_diff(diff, indent));
        }
        let quiet = matches!(kind, Some(ToolKind::Read | ToolKind::Search | ToolKind::Fetch));
        if self.verbose {
            blocks.push(self.lines(output, indent, usize::MAX));
        } else if quiet && output.lines().count() > 1 {
            let count = output.lines().count();
            blocks.push(self.err.dim(&format!("{indent}{count} lines")));
        } else if diffs.is_empty() {
            blocks.push(self.lines(output, indent, OUTPUT_LINES));
        }
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n")
    }

    fn file_diff(&self, diff: &FileDiff, indent: &str) -> String {
        let patch = clean(&diff.patch);
        let count = |sign| patch.lines().filter(|line| line.starts_with(sign)).count();
        let head = format!(
            "{indent}{} {} {}",
            clean_line(&diff.path),
            self.err.green(&format!("+{}", count('+'))),
            self.err.red(&format!("−{}", count('-'))),
        );
        let limit = if self.verbose { usize::MAX } else { DIFF_LINES };
        let body =
            self.painted(patch.trim_end_matches('\n'), indent, limit, |l| self.err.diff_line(l));
        if body.is_empty() { head } else { format!("{head}\n{body}") }
    }

    fn plan(&self, entries: &[PlanEntry]) -> String {
        let line = |entry: &PlanEntry| {
            let content = clean_line(&entry.content);
            match entry.status {
                PlanStatus::Completed => self.err.dim(&format!("  ✔ {content}")),
                PlanStatus::InProgress => self.err.bold(&format!("  ▸ {content}")),
                PlanStatus::Pending => format!("  ☐ {content}"),
            }
        };
        entries.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What the agent asks, so that it can be answered without looking anywhere else.
    fn lines(&self, text: &str, indent: &str, limit: usize) -> String {
        self.painted(text, indent, limit, |line| self.err.dim(line))
    }

    /// The first lines of a text, each no wider than the screen, and how many more there are.
    fn painted(
        &self,
        text: &str,
        indent: &str,
        limit: usize,
        paint: impl Fn(&str) -> String,
    ) -> String {
        let count = text.lines().count();
        // One line more costs no more than saying that there is one.
        let limit = if count == limit.saturating_add(1) { count } else { limit };
        let width = if self.verbose {
            usize::MAX
        } else {
            self.width.saturating_sub(indent.chars().count()).max(20)
        };
        let mut lines: Vec<_> = text
            .lines()
            .take(limit)
            .map(|line| format!("{indent}{}", paint(&cut(&line.replace('\t', "    "), width))))
            .collect();
        if count > limit {
            lines.push(self.err.dim(&format!("{indent}… {} more lines", count - limit)));
        }
        lines.join("\n")
    }
}

fn ending(code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "how is not known".to_owned(),
    }
}

fn indented(text: &str, indent: &str) -> String {
    text.lines().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
}

/// The word the API uses for a value.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
