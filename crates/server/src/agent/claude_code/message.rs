//! What is said and done: the model's answers, in parts and whole, and what tools returned.

use rclaude_types::{EventBody, NoticeLevel, Role};
use serde_json::Value;

use super::{Translation, json, tools, translation};
use crate::agent::{MAX_TEXT_BYTES, text::bounded, translator::Signals};

/// What the binary writes into the conversation when its user stops it. The turn's end says it.
const INTERRUPTED: &str = "[Request interrupted by user";

/// The longest note passed on; the summary of a compacted conversation is long.
const MAX_NOTE_BYTES: usize = 4 * 1024;

fn parent(line: &Value) -> Option<String> {
    json::id(line, "parent_tool_use_id")
}

impl Translation {
    /// `stream_event`: an event of the model's API as it arrives.
    pub(super) fn part(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let event = &line["event"];
        let parent = parent(line);
        let index = event.get("index").and_then(Value::as_u64);
        match (json::text(event, "type").unwrap_or_default(), index) {
            ("message_start", _) => {
                let Some(message) = json::id(&event["message"], "id") else { return false };
                self.blocks.start(parent.as_deref(), &message);
                true
            }
            ("content_block_start", Some(index)) => {
                self.blocks.open(parent.as_deref(), index);
                true
            }
            ("content_block_delta", Some(index)) => {
                let Some(id) = self.blocks.part(parent.as_deref(), index) else { return false };
                delta(&event["delta"], id, parent, signals)
            }
            ("content_block_stop", _) => {
                self.blocks.close(parent.as_deref());
                true
            }
            ("message_delta", _) => {
                if parent.is_none() {
                    self.context_tokens = context_tokens(&event["usage"]).or(self.context_tokens);
                }
                true
            }
            ("message_stop" | "ping", _) => true,
            _ => false,
        }
    }

    /// `assistant`: a whole content block of the model's answer.
    pub(super) fn assistant(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let message = &line["message"];
        let Some(message_id) = json::id(message, "id") else { return false };
        let parent = parent(line);
        if json::flag(line, "is_api_error_message") || json::flag(line, "isApiErrorMessage") {
            return api_error(line, signals);
        }
        let content = &message["content"];
        if let Some(text) = content.as_str() {
            let id = self.blocks.whole(parent.as_deref(), &message_id);
            said(Role::Assistant, id, text, parent, signals);
            return true;
        }
        let Some(blocks) = content.as_array().filter(|blocks| !blocks.is_empty()) else {
            return false;
        };
        for block in blocks {
            let id = self.blocks.whole(parent.as_deref(), &message_id);
            self.block(block, id, parent.clone(), signals);
        }
        true
    }

    fn block(&mut self, block: &Value, id: String, parent: Option<String>, signals: &mut Signals) {
        match json::text(block, "type").unwrap_or_default() {
            "text" if block["text"].is_string() => {
                let text = json::text(block, "text").unwrap_or_default();
                said(Role::Assistant, id, text, parent, signals);
            }
            "thinking" if block["thinking"].is_string() => {
                // Without text it is only a signature for the API.
                if let Some(text) = json::text(block, "thinking") {
                    let text = text.to_owned();
                    signals.event(EventBody::Thought { id, text, parent });
                }
            }
            "redacted_thinking" => {
                let text = "(The model's provider withheld this thought.)".to_owned();
                signals.event(EventBody::Thought { id, text, parent });
            }
            "tool_use" | "server_tool_use" | "mcp_tool_use" => {
                let tool_call = json::id(block, "id").unwrap_or(id);
                let call = tools::call(block, tool_call.clone(), parent.clone());
                signals.event(call);
                if parent.is_none() {
                    self.plan.called(&tool_call, block, signals);
                }
            }
            kind if kind.ends_with("_tool_result") => {
                signals.event(tools::result(block, &Value::Null, parent));
            }
            _ => translation::raw(block.clone(), &block.to_string(), signals),
        }
    }

    /// `user`: what tools returned, and what the binary itself writes into the conversation.
    pub(super) fn user(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let parent = parent(line);
        let content = &line["message"]["content"];
        if let Some(text) = content.as_str() {
            self.told(line, text, parent, signals);
            return true;
        }
        let Some(blocks) = content.as_array() else { return false };
        let results = blocks.iter().filter(|block| is_tool_result(block)).count();
        for block in blocks {
            if is_tool_result(block) {
                // The structured result speaks of one call; with several it is unclear which.
                let detail = if results == 1 { &line["tool_use_result"] } else { &Value::Null };
                signals.event(tools::result(block, detail, parent.clone()));
                if parent.is_none() {
                    self.plan.returned(block, detail, signals);
                }
            } else if block["type"] == "text" && block["text"].is_string() {
                let text = json::text(block, "text").unwrap_or_default();
                self.told(line, text, parent.clone(), signals);
            } else {
                translation::raw(block.clone(), &block.to_string(), signals);
            }
        }
        true
    }

    /// Text put into the conversation by the binary: a sub-agent's orders, or a note.
    fn told(&mut self, line: &Value, text: &str, parent: Option<String>, signals: &mut Signals) {
        if parent.is_some() {
            let message = json::id(line, "uuid").unwrap_or_default();
            let id = self.blocks.whole(parent.as_deref(), &message);
            said(Role::User, id, text, parent, signals);
            return;
        }
        let printed = ["local-command-stdout", "local-command-stderr"].iter().find_map(|tag| {
            text.trim().strip_prefix(&*format!("<{tag}>"))?.strip_suffix(&*format!("</{tag}>"))
        });
        let (code, text) = match printed {
            Some(printed) => ("local_command", printed.trim()),
            None => ("agent_note", text),
        };
        if !text.is_empty() && !text.starts_with(INTERRUPTED) {
            signals.notice(NoticeLevel::Info, code, bounded(text, MAX_NOTE_BYTES));
        }
    }
}

fn is_tool_result(block: &Value) -> bool {
    json::text(block, "type") == Some("tool_result")
}

fn said(role: Role, id: String, text: &str, parent: Option<String>, signals: &mut Signals) {
    if !text.is_empty() {
        signals.event(EventBody::Message { id, role, text: text.to_owned(), parent });
    }
}

fn delta(delta: &Value, id: String, parent: Option<String>, signals: &mut Signals) -> bool {
    match json::text(delta, "type").unwrap_or_default() {
        "text_delta" => {
            if let Some(text) = json::text(delta, "text") {
                let text = text.to_owned();
                signals.event(EventBody::MessageDelta { id, text, parent });
            }
            true
        }
        "thinking_delta" => {
            if let Some(text) = json::text(delta, "thinking") {
                let text = text.to_owned();
                signals.event(EventBody::ThoughtDelta { id, text, parent });
            }
            true
        }
        // A tool's input follows whole, the others are not for people.
        "input_json_delta" | "signature_delta" | "citations_delta" => true,
        _ => false,
    }
}

/// The binary's own words for a failure of the model's API, in place of an answer.
fn api_error(line: &Value, signals: &mut Signals) -> bool {
    let words: Vec<&str> = json::list(&line["message"], "content")
        .iter()
        .filter_map(|block| json::text(block, "text"))
        .collect();
    let code = json::text(line, "api_error_type")
        .or_else(|| json::text(line, "error").filter(|kind| *kind != "unknown"))
        .unwrap_or("api_error");
    signals.notice(NoticeLevel::Error, code, bounded(&words.join("\n"), MAX_TEXT_BYTES));
    !words.is_empty()
}

/// All that the model read and wrote for one answer is its context for the next.
fn context_tokens(usage: &Value) -> Option<i64> {
    usage.is_object().then(|| {
        ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"]
            .iter()
            .fold(0, |sum: i64, key| sum.saturating_add(json::count(usage, key)))
    })
}
