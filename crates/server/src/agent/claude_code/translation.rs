//! One line of output at a time: which kind it is, and who understands it.

use rclaude_types::{EventBody, NoticeLevel, PermissionMode, TurnId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{blocks::Blocks, input, json, plan::Plan};
use crate::agent::{
    ControlAnswer, Launch, MAX_TEXT_BYTES, Signal, text::bounded, translator::Signals,
};

/// Turns taken and not yet answered that are remembered; more than the engine ever sends.
const MAX_TAKEN: usize = 64;

/// What was learnt from the lines so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Translation {
    /// Started with `--resume`.
    pub(super) resumed: bool,
    /// The conversation's id, once said.
    pub(super) session: Option<String>,
    /// Digest of version and tools as last announced.
    pub(super) announced: Option<String>,
    /// The model, as last said.
    pub(super) model: Option<String>,
    /// The permission mode, as last said or as launched.
    pub(super) mode: PermissionMode,
    /// Tokens in the main conversation's context after the last answer.
    pub(super) context_tokens: Option<i64>,
    /// Turns taken since the last result.
    pub(super) taken: Vec<TurnId>,
    /// Tasks in the background.
    pub(super) background: Vec<String>,
    pub(super) blocks: Blocks,
    pub(super) plan: Plan,
}

impl Translation {
    pub(super) fn new(launch: &Launch) -> Self {
        Self {
            resumed: launch.resume,
            session: None,
            announced: None,
            model: None,
            mode: launch.permission_mode,
            context_tokens: None,
            taken: Vec::new(),
            background: Vec::new(),
            blocks: Blocks::default(),
            plan: Plan::default(),
        }
    }

    /// Understands one line, or keeps it as a raw event.
    pub(crate) fn line(&mut self, line: &[u8], signals: &mut Signals) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let line = String::from_utf8_lossy(line);
        // Nesting deeper than the parser's bound of 128 is refused like any other non-JSON.
        if let Ok(value) = serde_json::from_str::<Value>(&line) {
            if !self.understand(&value, signals) {
                raw(value, &line, signals);
            }
        } else {
            let line = Value::String(bounded(&line, MAX_TEXT_BYTES));
            signals.event(EventBody::Raw { line });
        }
    }

    /// `false` where the line must be kept raw: it, or something in it, is not known.
    fn understand(&mut self, line: &Value, signals: &mut Signals) -> bool {
        match json::text(line, "type").unwrap_or_default() {
            "system" => self.system(line, signals),
            "assistant" => self.assistant(line, signals),
            "user" => self.user(line, signals),
            "stream_event" => self.part(line, signals),
            "result" => self.result(line, signals),
            "control_request" => self.request(line, signals),
            "control_cancel_request" => withdrawn(line, signals),
            "control_response" => self.control(line, signals),
            "command_lifecycle" => self.lifecycle(line, signals),
            "conversation_reset" => self.reset(signals),
            "rate_limit_event" => Self::rate_limit(line, signals),
            // Signs of life.
            "keep_alive" | "tool_progress" => true,
            _ => false,
        }
    }

    /// Its user cleared the conversation. The new one's id comes with the next `init`.
    fn reset(&mut self, signals: &mut Signals) -> bool {
        self.plan = Plan::default();
        self.context_tokens = None;
        let message = "The conversation was cleared; the agent remembers nothing of it";
        signals.notice(NoticeLevel::Info, "conversation_cleared", message);
        true
    }

    /// What became of a prompt. Uuids that are not a turn's are the binary's own (a turn that
    /// it runs again after a resume).
    fn lifecycle(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let turn = json::text(line, "command_uuid").and_then(input::turn_of);
        let cancelled = match json::text(line, "state") {
            Some("queued") => return true,
            Some("started") => {
                if let Some(turn) = turn {
                    self.take(turn, signals);
                }
                return true;
            }
            Some("completed") => false,
            Some("cancelled") => true,
            _ => return false,
        };
        if let Some(turn) = turn {
            signals.push(Signal::PromptOver { turn, cancelled });
        }
        true
    }

    /// A turn's prompt was taken up. Said once until the next result.
    pub(super) fn take(&mut self, turn: TurnId, signals: &mut Signals) {
        if self.taken.contains(&turn) {
            return;
        }
        if self.taken.len() == MAX_TAKEN {
            self.taken.remove(0);
        }
        self.taken.push(turn.clone());
        signals.push(Signal::PromptTaken { turn });
    }

    /// The answer to one of our requests. Where it names the model now used, that is a change
    /// of settings; a changed mode is told by a status line of its own.
    fn control(&mut self, line: &Value, signals: &mut Signals) -> bool {
        let response = &line["response"];
        let Some(request_id) = json::id(response, "request_id") else { return false };
        let outcome = match json::text(response, "subtype") {
            Some("success") => Ok(response["response"].clone()),
            Some("error") => Err(bounded(
                json::text(response, "error").unwrap_or("refused without a reason"),
                MAX_TEXT_BYTES,
            )),
            _ => return false,
        };
        if let Ok(answer) = &outcome
            && let Some(model) = json::id(answer, "model")
        {
            self.model_is(model, signals);
        }
        signals.push(Signal::Control(ControlAnswer { request_id, outcome }));
        true
    }

    /// The model is this one.
    pub(super) fn model_is(&mut self, model: String, signals: &mut Signals) {
        if self.model.as_ref() != Some(&model) {
            self.model = Some(model.clone());
            signals.event(EventBody::SettingsChanged { model: Some(model), permission_mode: None });
        }
    }

    /// The permission mode is this one.
    pub(super) fn mode_is(&mut self, mode: PermissionMode, signals: &mut Signals) {
        if self.mode != mode {
            self.mode = mode;
            signals.event(EventBody::SettingsChanged { model: None, permission_mode: Some(mode) });
        }
    }
}

fn withdrawn(line: &Value, signals: &mut Signals) -> bool {
    let Some(agent_request) = json::id(line, "request_id") else { return false };
    signals.push(Signal::Withdrawn { agent_request });
    true
}

/// Keeps a line as it came, or its beginning as text where it is very long.
pub(super) fn raw(value: Value, line: &str, signals: &mut Signals) {
    let short = line.len() <= MAX_TEXT_BYTES;
    let line = if short { value } else { Value::String(bounded(line, MAX_TEXT_BYTES)) };
    signals.event(EventBody::Raw { line });
}
