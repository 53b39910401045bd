//! The script in the prompt: finding it, finding the step that is due, reading its blocks.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::request::MessagesRequest;

const OPEN: &str = "<<SCRIPT ";
const CLOSE: &str = " SCRIPT>>";

/// One block of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Block {
    Text(String),
    Think(String),
    Tool { name: String, input: Value },
    Usage(Map<String, Value>),
    Stop(String),
    Slow { parts: usize, wait: Duration },
    Sleep(Duration),
    Hang,
    Drop,
    Cut,
    SseError(String),
    Error(Box<HttpError>),
}

/// An HTTP error in place of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpError {
    pub(crate) status: StatusCode,
    pub(crate) kind: String,
    pub(crate) message: String,
    pub(crate) headers: HeaderMap,
}

/// A block and for how many attempts it counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scripted {
    pub(crate) block: Block,
    pub(crate) times: Option<u64>,
}

/// The step that is due.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) blocks: Vec<Scripted>,
    /// Names the script and the step in it, for counting attempts.
    pub(crate) key: u64,
}

impl Step {
    /// A step that says one thing.
    fn saying(text: String) -> Self {
        Self { blocks: vec![Scripted { block: Block::Text(text), times: None }], key: 0 }
    }
}

/// The step that is due in this conversation, or `None` where nobody gave a script.
pub(crate) fn due(request: &MessagesRequest<'_>) -> Option<Step> {
    let mut step = 0;
    for message in request.messages.iter().rev() {
        if message.is("assistant") {
            step += 1;
        } else if message.is("user") && message.raw().contains("SCRIPT>>") {
            let blocks = message.blocks();
            let texts = blocks.iter().filter(|block| block.kind == "text");
            if let Some(script) = texts.rev().find_map(|block| last_script(&block.text)) {
                return Some(read(script, step));
            }
        }
    }
    None
}

/// The last script of a text.
fn last_script(text: &str) -> Option<&str> {
    let mut found = None;
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(OPEN) {
        let Some((script, after)) = after.split_once(CLOSE) else { break };
        found = Some(script);
        rest = after;
    }
    found
}

fn read(script: &str, step: usize) -> Step {
    let steps: Vec<Vec<Value>> = match serde_json::from_str(script) {
        Ok(steps) => steps,
        Err(error) => return Step::saying(format!("(emulator: the script is no script: {error})")),
    };
    let Some(blocks) = steps.into_iter().nth(step) else {
        return Step::saying("(emulator: the script is over)".to_owned());
    };
    let mut hasher = DefaultHasher::new();
    (script, step).hash(&mut hasher);
    match blocks.into_iter().map(scripted).collect() {
        Ok(blocks) => Step { blocks, key: hasher.finish() },
        Err(why) => Step::saying(format!("(emulator: a block is not understood: {why})")),
    }
}

fn scripted(value: Value) -> Result<Scripted, String> {
    let shown = value.to_string();
    let Value::Object(mut fields) = value else { return Err(shown) };
    let times = fields.remove("times").and_then(|times| times.as_u64());
    block(&mut fields).map(|block| Scripted { block, times }).ok_or(shown)
}

fn block(fields: &mut Map<String, Value>) -> Option<Block> {
    fn text(value: Option<Value>) -> Option<String> {
        match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }
    fn seconds(value: &Value) -> Option<Duration> {
        Duration::try_from_secs_f64(value.as_f64()?).ok()
    }
    let has = |key: &str| fields.contains_key(key);
    if has("text") {
        text(fields.remove("text")).map(Block::Text)
    } else if has("think") {
        text(fields.remove("think")).map(Block::Think)
    } else if has("tool") {
        let name = text(fields.remove("tool"))?;
        let input = fields.remove("input").unwrap_or_else(|| Value::Object(Map::new()));
        Some(Block::Tool { name, input })
    } else if has("usage") {
        fields.remove("usage")?.as_object().cloned().map(Block::Usage)
    } else if has("stop") {
        text(fields.remove("stop")).map(Block::Stop)
    } else if let Some(slow) = fields.get("slow") {
        let parts = usize::try_from(slow.get(0)?.as_u64()?).ok()?.max(1);
        Some(Block::Slow { parts, wait: seconds(slow.get(1)?)? })
    } else if let Some(sleep) = fields.get("sleep") {
        seconds(sleep).map(Block::Sleep)
    } else if has("hang") {
        Some(Block::Hang)
    } else if has("drop") {
        Some(Block::Drop)
    } else if has("cut") {
        Some(Block::Cut)
    } else if has("sse_error") {
        text(fields.remove("sse_error")).map(Block::SseError)
    } else if let Some(status) = fields.get("error") {
        let status = StatusCode::from_u16(u16::try_from(status.as_u64()?).ok()?).ok()?;
        let kind = text(fields.remove("type")).unwrap_or_else(|| kind_of(status).to_owned());
        let message = text(fields.remove("message")).unwrap_or_else(|| "scripted error".to_owned());
        let headers = match fields.remove("headers") {
            Some(Value::Object(headers)) => headers
                .into_iter()
                .map(|(name, value)| {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
                })
                .collect::<Option<HeaderMap>>()?,
            _ => HeaderMap::new(),
        };
        Some(Block::Error(Box::new(HttpError { status, kind, message, headers })))
    } else {
        None
    }
}

/// The API's word for an error of this status.
pub(crate) fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_in(messages: &Value) -> Option<Step> {
        let body = serde_json::json!({ "model": "m", "messages": messages }).to_string();
        due(&serde_json::from_str(&body).unwrap())
    }

    fn says(step: Option<Step>) -> Vec<Block> {
        step.unwrap().blocks.into_iter().map(|scripted| scripted.block).collect()
    }

    #[test]
    fn the_step_is_the_number_of_answers_after_the_last_script() {
        let script = r#"Do it. <<SCRIPT [[{"text":"one"}],[{"text":"two"}]] SCRIPT>>"#;
        let user = serde_json::json!({ "role": "user", "content": script });
        let assistant = serde_json::json!({ "role": "assistant", "content": "…" });
        let steps: Vec<_> = [
            serde_json::json!([user]),
            serde_json::json!([user, assistant]),
            serde_json::json!([user, assistant, assistant]),
            serde_json::json!([user, assistant, user]),
        ]
        .iter()
        .map(|messages| says(due_in(messages)))
        .collect();
        let text = |text: &str| vec![Block::Text(text.to_owned())];
        assert_eq!(
            steps,
            [text("one"), text("two"), text("(emulator: the script is over)"), text("one")]
        );
    }

    #[test]
    fn a_script_in_a_tools_result_is_not_obeyed() {
        let result = serde_json::json!([{ "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "t",
              "content": "<<SCRIPT [[{\"text\":\"x\"}]] SCRIPT>>" }
        ]}]);
        assert_eq!(due_in(&result), None);
    }

    #[test]
    fn every_block_is_read() {
        let script = r#"[[{"text":"t"},{"think":"h"},{"tool":"Bash","input":{"command":"ls"}},
            {"usage":{"output_tokens":7}},{"stop":"refusal"},{"slow":[4,0.5]},{"sleep":1.5},
            {"hang":true},{"drop":true},{"cut":true,"times":2},{"sse_error":"api_error"},
            {"error":429,"headers":{"retry-after":3}}]]"#;
        let step = read(script, 0);
        let usage = serde_json::json!({ "output_tokens": 7 });
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from(3))]);
        let expected = [
            Block::Text("t".into()),
            Block::Think("h".into()),
            Block::Tool { name: "Bash".into(), input: serde_json::json!({ "command": "ls" }) },
            Block::Usage(usage.as_object().unwrap().clone()),
            Block::Stop("refusal".into()),
            Block::Slow { parts: 4, wait: Duration::from_millis(500) },
            Block::Sleep(Duration::from_millis(1500)),
            Block::Hang,
            Block::Drop,
            Block::Cut,
            Block::SseError("api_error".into()),
            Block::Error(Box::new(HttpError {
                status: StatusCode::TOO_MANY_REQUESTS,
                kind: "rate_limit_error".into(),
                message: "scripted error".into(),
                headers,
            })),
        ];
        assert_eq!(step.blocks.iter().map(|s| s.block.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(step.blocks.iter().filter_map(|s| s.times).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_block_that_is_not_understood_is_named_in_the_answer() {
        let Some(Block::Text(text)) = says(Some(read(r#"[[{"txt":"t"}]]"#, 0))).pop() else {
            panic!("an answer in words")
        };
        assert!(text.contains(r#"{"txt":"t"}"#), "{text}");
    }
}
