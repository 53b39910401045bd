//! Recordings of the real binary, and signals as comparable text.

use std::{fs, path::PathBuf};

use rclaude_server::agent::{Adapter, Launch, Signal, Translator, adapter};
use rclaude_types::{AgentKind, EventBody};
use serde_json::{Value, json};

/// One process of the real binary.
pub(super) struct Recording {
    pub(super) name: String,
    /// What it was started with.
    pub(super) launch: Value,
    /// What it was sent, one line each.
    pub(super) input: Vec<Value>,
    /// What it printed.
    pub(super) output: Vec<u8>,
}

pub(super) fn claude_code() -> &'static dyn Adapter {
    adapter(AgentKind::ClaudeCode)
}

fn directory() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "recordings", "claude_code"].iter().collect()
}

/// All of them, by name.
pub(super) fn all() -> Vec<Recording> {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".launch.json").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() > 40, "the recordings are missing: {names:?}");
    names.into_iter().map(|name| Recording::read(&name)).collect()
}

impl Recording {
    pub(super) fn read(name: &str) -> Self {
        let file = |suffix: &str| fs::read(directory().join(format!("{name}.{suffix}"))).unwrap();
        let input = String::from_utf8(file("in.jsonl")).unwrap();
        Self {
            name: name.to_owned(),
            launch: serde_json::from_slice(&file("launch.json")).unwrap(),
            input: input.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            output: file("out.jsonl"),
        }
    }

    /// Lines of standard error.
    pub(super) fn stderr(&self) -> Vec<Vec<u8>> {
        let text = fs::read(directory().join(format!("{}.err.txt", self.name)));
        let text = text.unwrap_or_default();
        text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
    }

    fn argument(&self, name: &str) -> Option<&str> {
        let argv = self.launch["argv"].as_array().unwrap();
        let at = argv.iter().position(|argument| argument == name)?;
        argv[at + 1].as_str()
    }

    /// What the engine would have asked for.
    pub(super) fn launch(&self) -> Launch {
        let env = &self.launch["env"];
        let resume = self.argument("--resume");
        Launch {
            binary: self.launch["argv"][0].as_str().unwrap().to_owned(),
            agent_session: resume
                .or_else(|| self.argument("--session-id"))
                .unwrap()
                .parse()
                .unwrap(),
            resume: resume.is_some(),
            continues: true,
            model: self.argument("--model").map(str::to_owned),
            permission_mode: serde_json::from_value(
                self.argument("--permission-mode").unwrap().into(),
            )
            .unwrap(),
            gateway_url: env["ANTHROPIC_BASE_URL"].as_str().unwrap().to_owned(),
            token: env["ANTHROPIC_AUTH_TOKEN"].as_str().unwrap().to_owned(),
            env: serde_json::from_value(env.clone()).unwrap(),
            append_system_prompt: None,
        }
    }

    pub(super) fn translator(&self) -> Translator {
        claude_code().translator(&self.launch())
    }

    /// The signals of the whole of it.
    pub(super) fn signals(&self) -> Vec<Signal> {
        let mut translator = self.translator();
        let mut signals = translator.feed(&self.output);
        signals.extend(translator.finish());
        assert_eq!(translator.offset(), self.output.len() as u64, "{}", self.name);
        signals
    }
}

/// Signals with the parts of one message joined, so that how bytes arrived does not show.
pub(super) fn joined(signals: Vec<Signal>) -> Vec<Signal> {
    let mut all: Vec<Signal> = Vec::new();
    for signal in signals {
        if let (
            Some(Signal::Event(
                EventBody::MessageDelta { id, text, .. } | EventBody::ThoughtDelta { id, text, .. },
            )),
            Signal::Event(
                EventBody::MessageDelta { id: next, text: more, .. }
                | EventBody::ThoughtDelta { id: next, text: more, .. },
            ),
        ) = (all.last_mut(), &signal)
            && id == next
        {
            text.push_str(more);
        } else {
            all.push(signal);
        }
    }
    all
}

/// One line of JSON per signal.
pub(super) fn shown(signals: &[Signal]) -> String {
    signals.iter().map(|signal| value(signal).to_string() + "\n").collect()
}

fn value(signal: &Signal) -> Value {
    match signal {
        Signal::Event(event) => serde_json::to_value(event).unwrap(),
        Signal::Identity { agent_session } => json!({ "SIGNAL": "identity", "id": agent_session }),
        Signal::Busy => json!({ "SIGNAL": "busy" }),
        Signal::Idle => json!({ "SIGNAL": "idle" }),
        Signal::PromptTaken { turn } => json!({ "SIGNAL": "prompt_taken", "turn": turn }),
        Signal::PromptOver { turn, cancelled } => {
            json!({ "SIGNAL": "prompt_over", "turn": turn, "cancelled": cancelled })
        }
        Signal::Asked(ask) => json!({
            "SIGNAL": "asked",
            "agent_request": ask.agent_request,
            "kind": ask.kind,
            "tool": ask.tool,
            "tool_call": ask.tool_call,
            "title": ask.title,
            "input": ask.input,
            "reason": ask.reason,
            "questions": ask.questions,
            "can_always": ask.can_always,
            "raw": ask.raw,
        }),
        Signal::Withdrawn { agent_request } => {
            json!({ "SIGNAL": "withdrawn", "agent_request": agent_request })
        }
        Signal::Result(result) => json!({
            "SIGNAL": "result",
            "outcome": result.outcome,
            "failure": result.failure,
            "api_status": result.api_status,
            "turns": result.turns,
        }),
        Signal::ResumeFailed => json!({ "SIGNAL": "resume_failed" }),
        Signal::AlreadyExists => json!({ "SIGNAL": "already_exists" }),
        Signal::Control(answer) => json!({
            "SIGNAL": "control",
            "request_id": answer.request_id,
            "ok": answer.outcome.is_ok(),
            "error": answer.outcome.as_ref().err(),
        }),
        Signal::Reply(bytes) => {
            json!({ "SIGNAL": "reply", "bytes": String::from_utf8_lossy(bytes) })
        }
    }
}
