//! The binary's standard error: mostly warnings, sometimes why it did not start.

use rclaude_types::{EventBody, NoticeLevel};

use super::result::NO_CONVERSATION;
use crate::agent::{Signal, text::bounded};

/// The longest line that is passed on.
const MAX_BYTES: usize = 4 * 1024;

/// What a line means; nothing for an empty one.
pub(super) fn signal(line: &[u8]) -> Option<Signal> {
    let line = String::from_utf8_lossy(line);
    let line = line.trim();
    if line.is_empty() {
        return None;
    }
    if line.starts_with(NO_CONVERSATION) {
        return Some(Signal::ResumeFailed);
    }
    if line.contains("Session ID") && line.contains("is already in use") {
        return Some(Signal::AlreadyExists);
    }
    let (level, code, advice) = if line.contains("cannot be used with root/sudo privileges") {
        let advice = "The agent will not bypass permissions as root outside a sandbox. ";
        (NoticeLevel::Error, "agent_refuses_root", advice)
    } else if line.contains("Not logged in") || line.contains("Invalid API key") {
        let advice = "The agent has no valid credentials for the model's API. Give the server an \
                      API key. ";
        (NoticeLevel::Error, "agent_not_logged_in", advice)
    } else if line.contains("Error parsing streaming input line") {
        (NoticeLevel::Error, "agent_input_rejected", "The agent could not read what it was sent. ")
    } else if line.starts_with("Error") {
        (NoticeLevel::Error, "agent_stderr", "")
    } else {
        (NoticeLevel::Warning, "agent_stderr", "")
    };
    Some(Signal::Event(EventBody::Notice {
        level,
        code: code.to_owned(),
        message: format!("{advice}{}", bounded(line, MAX_BYTES)),
    }))
}
