//! `system` lines: what the binary says about itself.

use base64::{Engine, engine::general_purpose::STANDARD};
use rclaude_types::{EventBody, NoticeLevel};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Translation, input, json};
use crate::agent::{
    MAX_TEXT_BYTES, Signal,
    text::{bounded, one_line},
    translator::Signals,
};

/// Tools listed in an event.
const MAX_TOOLS: usize = 512;
/// Background tasks remembered.
const MAX_BACKGROUND: usize = 64;

impl Translation {
    /// A line by its subtype.
    pub(super) fn system(&mut self, line: &Value, signals: &mut Signals) -> bool {
        match json::text(line, "subtype").unwrap_or_default() {
            "init" => self.init(line, signals),
            "session_state_changed" => return self.state(line, signals),
            "status" => return self.status(line, signals),
            "api_retry" => api_retry(line, signals),
            "permission_denied" => permission_denied(line, signals),
            "compact_boundary" => compacted(line, signals),
            "informational" | "notification" => return note(line, signals),
            "background_tasks_changed" => self.background(line),
            "task_started" => return task_started(line, signals),
            "task_notification" => self.task_ended(line, signals),
            // Progress that other lines tell better.
            "thinking_tokens" | "task_progress" | "task_updated" | "commands_changed" => {}
            _ => return false,
        }
        true
    }

    /// Comes at the start of every run, so only what is new in it counts.
    fn init(&mut self, line: &Value, signals: &mut Signals) {
        if let Some(agent_session) = json::id(line, "session_id")
            && self.session.as_ref() != Some(&agent_session)
        {
            self.session = Some(agent_session.clone());
            signals.push(Signal::Identity { agent_session });
        }
        let version = json::id(line, "claude_code_version");
        let tools: Vec<String> = json::list(line, "tools")
            .iter()
            .filter_map(Value::as_str)
            .map(|tool| one_line(tool, 128))
            .take(MAX_TOOLS)
            .collect();
        let digest = STANDARD.encode(Sha256::digest(format!("{version:?}{tools:?}")));
        let model = json::id(line, "model");
        if self.announced.as_ref() != Some(&digest) {
            self.announced = Some(digest);
            self.model.clone_from(&model);
            let resumed = self.resumed;
            signals.event(EventBody::AgentStarted { version, model, tools, resumed });
        } else if let Some(model) = model {
            self.model_is(model, signals);
        }
        if let Some(mode) = json::text(line, "permissionMode").and_then(json::mode) {
            self.mode_is(mode, signals);
        }
        // A turn that is run again after a resume is named here alone.
        for uuid in json::list(line, "user_message_uuids").iter().filter_map(Value::as_str) {
            if let Some(turn) = input::turn_of(uuid) {
                self.take(turn, signals);
            }
        }
    }

    fn state(&mut self, line: &Value, signals: &mut Signals) -> bool {
        match json::text(line, "state") {
            Some("idle") => {
                self.taken.clear();
                signals.push(Signal::Idle);
            }
            Some("running") => signals.push(Signal::Busy),
            // Comes with a request, which says more.
            Some("requires_action") => {}
            _ => return false,
        }
        true
    }

    fn status(&mut self, line: &Value, signals: &mut Signals) -> bool {
        if let Some(mode) = line.get("permissionMode").filter(|mode| !mode.is_null()) {
            let Some(mode) = mode.as_str().and_then(json::mode) else { return false };
            self.mode_is(mode, signals);
        }
        if let Some(error) = json::text(line, "compact_error") {
            let message = format!("The conversation was not compacted: {}", one_line(error, 500));
            signals.notice(NoticeLevel::Warning, "compaction_failed", message);
        }
        match json::text(line, "status") {
            Some("compacting") => {
                let message = "The conversation is being compacted";
                signals.notice(NoticeLevel::Info, "compacting", message);
                true
            }
            None | Some("requesting") => true,
            Some(_) => false,
        }
    }

    fn background(&mut self, line: &Value) {
        self.background = json::list(line, "tasks")
            .iter()
            .filter_map(|task| json::id(task, "task_id"))
            .take(MAX_BACKGROUND)
            .collect();
    }

    /// A task in the foreground is told of by its tool result.
    fn task_ended(&mut self, line: &Value, signals: &mut Signals) {
        if json::id(line, "task_id").is_some_and(|id| self.background.contains(&id)) {
            let level = match json::text(line, "status") {
                Some("completed") => NoticeLevel::Info,
                _ => NoticeLevel::Warning,
            };
            let summary = json::text(line, "summary").unwrap_or("A background task ended");
            signals.notice(level, "background_ended", bounded(summary, MAX_TEXT_BYTES));
        }
    }

    /// `rate_limit_event`: how near the account is to a limit.
    pub(super) fn rate_limit(line: &Value, signals: &mut Signals) -> bool {
        let info = &line["rate_limit_info"];
        let (level, words) = match json::text(info, "status") {
            Some("allowed") => return true,
            Some("allowed_warning") => (NoticeLevel::Warning, "is nearly used up"),
            Some("rejected") => (NoticeLevel::Error, "is used up"),
            _ => return false,
        };
        let limit = json::text(info, "rateLimitType").unwrap_or("usage");
        let message = format!("The account's {} limit {words}", one_line(limit, 60));
        signals.notice(level, "rate_limit", message);
        true
    }
}

fn api_retry(line: &Value, signals: &mut Signals) {
    let error = match (json::count(line, "error_status"), json::text(line, "error")) {
        (0, None | Some("unknown")) => "no answer".to_owned(),
        (0, Some(error)) => one_line(error, 100),
        (status, Some(error)) if error != "unknown" => {
            format!("HTTP {status}, {}", one_line(error, 100))
        }
        (status, _) => format!("HTTP {status}"),
    };
    let message = format!(
        "The model's API failed ({error}); trying again, {} of {}",
        json::count(line, "attempt"),
        json::count(line, "max_retries")
    );
    signals.notice(NoticeLevel::Warning, "api_retry", message);
}

fn permission_denied(line: &Value, signals: &mut Signals) {
    let tool = json::text(line, "tool_name").unwrap_or("a tool");
    let message = match json::text(line, "message") {
        // What follows is advice to the model.
        Some(message) => message.split(" IMPORTANT:").next().unwrap_or(message).to_owned(),
        None => format!("Using {tool} was not allowed"),
    };
    signals.notice(NoticeLevel::Warning, "permission_denied", one_line(&message, 1_000));
}

fn compacted(line: &Value, signals: &mut Signals) {
    let about = &line["compact_metadata"];
    let message = format!(
        "The conversation was compacted, from {} to {} tokens",
        json::count(about, "pre_tokens"),
        json::count(about, "post_tokens")
    );
    signals.notice(NoticeLevel::Info, "compacted", message);
}

fn note(line: &Value, signals: &mut Signals) -> bool {
    let Some(text) = ["content", "message", "text"].iter().find_map(|key| json::text(line, key))
    else {
        return false;
    };
    let level = match json::text(line, "level") {
        Some("warning") => NoticeLevel::Warning,
        Some("error") => NoticeLevel::Error,
        _ => NoticeLevel::Info,
    };
    signals.notice(level, "agent_note", bounded(text, MAX_TEXT_BYTES));
    true
}

/// A task in the foreground is told of by its tool call.
fn task_started(line: &Value, signals: &mut Signals) -> bool {
    let Some(backgrounded) = line["is_backgrounded"].as_bool() else { return false };
    if backgrounded {
        let what = json::text(line, "description").unwrap_or("a task");
        let message = format!("Running in the background: {}", one_line(what, 500));
        signals.notice(NoticeLevel::Info, "background_started", message);
    }
    true
}
