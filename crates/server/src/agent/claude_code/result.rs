//! `result` lines: how a run ended.
//!
//! A failure of the model's API is a `success` with `is_error` and a `terminal_reason`, so those
//! two decide and the subtype does not.

use rclaude_types::{EventBody, TokenUsage, TurnOutcome};
use serde_json::Value;

use super::{Translation, input, json};
use crate::agent::{Signal, TurnResult, text::one_line, translator::Signals};

/// What the binary says when there is nothing to resume; also on its standard error.
pub(super) const NO_CONVERSATION: &str = "No conversation found";

impl Translation {
    /// A run ended: what it used, and how.
    pub(super) fn result(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let errors = json::list(line, "errors").iter().filter_map(Value::as_str);
        if errors.clone().any(|error| error.starts_with(NO_CONVERSATION)) {
            signals.push(Signal::ResumeFailed);
            return true;
        }
        let Some(subtype) = json::text(line, "subtype") else { return false };
        self.usage(line, signals);

        let mut turns = std::mem::take(&mut self.taken);
        for uuid in json::list(line, "user_message_uuids").iter().filter_map(Value::as_str) {
            turns.extend(input::turn_of(uuid).filter(|turn| !turns.contains(turn)));
        }
        let reason = json::text(line, "terminal_reason").unwrap_or_default();
        let api_status = line.get("api_error_status").and_then(Value::as_u64);
        let api_status = api_status.and_then(|status| u16::try_from(status).ok());
        let failed = json::flag(line, "is_error") || subtype.starts_with("error");
        let outcome = match (failed, reason) {
            (_, "aborted_streaming" | "aborted_tools") => TurnOutcome::Interrupted,
            (true, _) => TurnOutcome::Failed,
            (false, _) => TurnOutcome::Completed,
        };
        let failure = (outcome == TurnOutcome::Failed).then(|| {
            let errors: Vec<_> = errors.collect();
            let said = json::text(line, "result").map_or_else(|| errors.join("; "), str::to_owned);
            failure(subtype, reason, api_status, &said)
        });
        signals.push(Signal::Result(TurnResult { outcome, failure, api_status, turns }));
        true
    }

    /// What the agent counted for this run. Commands that ask no model use nothing.
    fn usage(&self, line: &Value, signals: &mut Signals) {
        let usage = &line["usage"];
        let server = &usage["server_tool_use"];
        let (written, long) = {
            let writes = &usage["cache_creation"];
            let long = json::count(writes, "ephemeral_1h_input_tokens");
            let all = json::count(usage, "cache_creation_input_tokens");
            (all.saturating_sub(long).max(json::count(writes, "ephemeral_5m_input_tokens")), long)
        };
        let tokens = TokenUsage {
            input: json::count(usage, "input_tokens"),
            output: json::count(usage, "output_tokens"),
            cache_read: json::count(usage, "cache_read_input_tokens"),
            cache_write_5m: written,
            cache_write_1h: long,
            server_tool_requests: json::count(server, "web_search_requests")
                .saturating_add(json::count(server, "web_fetch_requests")),
        };
        if tokens == TokenUsage::default() {
            return;
        }
        let of_model = self.model.as_deref().map(|model| &line["modelUsage"][model]);
        signals.event(EventBody::AgentUsage {
            tokens,
            context_tokens: self.context_tokens,
            context_window: of_model
                .map(|model| json::count(model, "contextWindow"))
                .filter(|window| *window > 0),
        });
    }
}

/// What failed, and what its user can do, in one or two sentences; then the agent's own words.
fn failure(subtype: &str, reason: &str, api_status: Option<u16>, said: &str) -> String {
    let sentence = match (subtype, reason, api_status) {
        ("error_max_turns", ..) => {
            "The agent reached its limit of steps. Send another prompt to let it go on."
        }
        ("error_max_budget_usd", ..) | (_, "budget_exhausted", _) => {
            "The agent's own budget is spent. Raise it to let it go on."
        }
        (_, "prompt_too_long", _) => {
            "The conversation no longer fits the model's context. Send /compact, or start a new \
             session."
        }
        (_, "image_error", _) | (_, _, Some(413)) => {
            "The request is too large for the model's API. Remove large images or send /compact."
        }
        (_, _, Some(400)) => "The model's API refused the request as invalid.",
        (_, _, Some(401)) => {
            "The model's API refused the credentials. Check the API key the server uses."
        }
        (_, _, Some(402)) => "The budget is spent. Raise it, then send the prompt again.",
        (_, _, Some(403)) => {
            "The model's API does not allow this. Check what the API key and the session may use."
        }
        (_, _, Some(404)) => "The model's API does not know this model. Choose another one.",
        (_, _, Some(429)) => {
            "The model's API is limiting the rate of requests. Wait a while, then send the prompt \
             again."
        }
        (_, _, Some(529)) => {
            "The model's API is overloaded. Wait a while, then send the prompt again."
        }
        (_, _, Some(500..)) => {
            "The model's API failed. It usually recovers: send the prompt again in a while."
        }
        _ if said.starts_with("Not logged in") => {
            "The agent has no credentials for the model's API. Give the server an API key."
        }
        (_, "api_error", _) => "The model's API could not be reached.",
        _ => "The agent failed.",
    };
    if said.is_empty() {
        sentence.to_owned()
    } else {
        format!("{sentence} The agent says: {}", one_line(said, 1_000))
    }
}
