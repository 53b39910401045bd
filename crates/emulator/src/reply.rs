//! From blocks to an answer: the message, its usage, and the pieces it is sent in.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    player::Piece,
    request::MessagesRequest,
    script::{Block, HttpError},
};

/// Length of the pieces a tool's input streams in.
const INPUT_PIECE: usize = 200;

/// How to answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Close the connection.
    Drop,
    /// With an HTTP error.
    Error(Duration, Box<HttpError>),
    /// With a message, whole or streamed; after a wait.
    Message { after: Option<Duration>, pieces: VecDeque<Piece>, length: Option<usize> },
}

/// What is the same for every piece of an answer.
struct Draft<'a> {
    id: &'a str,
    model: &'a str,
    usage: Usage,
    stop_reason: String,
    slow: Option<(usize, Duration)>,
}

struct Usage {
    fields: Map<String, Value>,
    output: Value,
}

/// Makes an answer of `blocks`. `serial` makes ids unique; `size` is the request's, in bytes.
pub(crate) fn compose(
    request: &MessagesRequest<'_>,
    size: usize,
    blocks: Vec<Block>,
    serial: &str,
) -> Reply {
    if blocks.contains(&Block::Drop) {
        return Reply::Drop;
    }
    let lead = blocks.iter().map_while(|block| match block {
        Block::Sleep(wait) => Some(*wait),
        _ => None,
    });
    let (waits, lead): (usize, Duration) =
        lead.fold((0, Duration::ZERO), |(n, sum), wait| (n + 1, sum + wait));
    let mut blocks: Vec<_> = blocks.into_iter().skip(waits).collect();
    if let Some(at) = blocks.iter().position(|block| matches!(block, Block::Error(_)))
        && let Block::Error(error) = blocks.swap_remove(at)
    {
        return Reply::Error(lead, error);
    }
    // A hang before anything is said is a hang before the first byte.
    let after = if blocks.first() == Some(&Block::Hang) { None } else { Some(lead) };
    let id = format!("msg_emu_{serial}");
    let draft = Draft {
        id: &id,
        model: &request.model,
        usage: usage(request, size, &blocks),
        stop_reason: stop_reason(&blocks),
        slow: blocks.iter().find_map(|block| match block {
            Block::Slow { parts, wait } => Some((*parts, *wait)),
            _ => None,
        }),
    };
    if request.stream {
        let pieces = stream(&draft, blocks, serial);
        Reply::Message { after, pieces, length: None }
    } else {
        whole(&draft, blocks, after, serial)
    }
}

/// Roughly how a tokenizer would count.
pub(crate) fn tokens_in(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

fn stop_reason(blocks: &[Block]) -> String {
    let scripted = blocks.iter().rev().find_map(|block| match block {
        Block::Stop(reason) => Some(reason.clone()),
        _ => None,
    });
    let used_tool = blocks.iter().any(|block| matches!(block, Block::Tool { .. }));
    scripted.unwrap_or_else(|| if used_tool { "tool_use" } else { "end_turn" }.to_owned())
}

/// Tokens as the API would count them: with cache control in the request, what is new since the
/// last answer is written to the cache and the rest is read from it.
fn usage(request: &MessagesRequest<'_>, size: usize, blocks: &[Block]) -> Usage {
    let new: usize = request
        .messages
        .iter()
        .rev()
        .take_while(|message| !message.is("assistant"))
        .map(|message| message.raw().len())
        .sum();
    let answered = request.messages.iter().any(|message| message.is("assistant"));
    let (input, written, read) = match (caches(request), answered) {
        (false, _) => (tokens_in(size), 0, 0),
        (true, false) => (0, tokens_in(size), 0),
        (true, true) => (0, tokens_in(new), tokens_in(size.saturating_sub(new))),
    };
    let mut fields = Map::new();
    fields.insert("input_tokens".to_owned(), input.into());
    fields.insert("cache_creation_input_tokens".to_owned(), written.into());
    fields.insert("cache_read_input_tokens".to_owned(), read.into());
    fields.insert(
        "cache_creation".to_owned(),
        json!({ "ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0 }),
    );
    fields.insert("service_tier".to_owned(), "standard".into());
    let mut output: Value = blocks
        .iter()
        .map(|block| match block {
            Block::Text(text) | Block::Think(text) => tokens_in(text.len()),
            Block::Tool { input, .. } => 10 + tokens_in(input.to_string().len()),
            _ => 0,
        })
        .sum::<usize>()
        .max(1)
        .into();
    for block in blocks {
        let Block::Usage(over) = block else { continue };
        let mut over = over.clone();
        if let Some(tokens) = over.remove("output_tokens") {
            output = tokens;
        }
        if let Some(Value::Object(split)) = over.get("cache_creation")
            && !over.contains_key("cache_creation_input_tokens")
        {
            let sum: u64 = split.values().filter_map(Value::as_u64).sum();
            fields.insert("cache_creation_input_tokens".to_owned(), sum.into());
        }
        fields.append(&mut over);
    }
    Usage { fields, output }
}

/// Whether the request asks for prompt caching in its last messages, as agents do.
fn caches(request: &MessagesRequest<'_>) -> bool {
    request.messages.iter().rev().take(3).any(|message| message.raw().contains("\"cache_control\""))
}

impl Usage {
    /// Everything, as in a message that is whole.
    fn whole(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("output_tokens".to_owned(), self.output.clone());
        fields.into()
    }

    /// As a stream begins: nothing is written yet, and no tool has run.
    fn at_start(&self) -> Value {
        let mut fields = self.fields.clone();
        fields.remove("server_tool_use");
        fields.insert("output_tokens".to_owned(), 1.into());
        fields.into()
    }

    /// As a stream ends: sums so far, without the cache's split and the service's terms.
    fn at_end(&self) -> Value {
        const SUMS: [&str; 5] = [
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "server_tool_use",
            "iterations",
        ];
        let kept = SUMS.iter().filter_map(|key| Some((*key, self.fields.get(*key)?)));
        let mut fields: Map<_, _> =
            kept.map(|(key, value)| (key.to_owned(), value.clone())).collect();
        fields.insert("output_tokens".to_owned(), self.output.clone());
        fields.into()
    }
}

impl Draft<'_> {
    fn message(&self, content: &[Value], stop_reason: Option<&str>, usage: &Value) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
        })
    }
}

fn whole(draft: &Draft<'_>, blocks: Vec<Block>, after: Option<Duration>, serial: &str) -> Reply {
    let mut wait = after;
    let mut content = Vec::new();
    let mut cut = false;
    for block in blocks {
        match block {
            Block::Text(text) => content.push(json!({ "type": "text", "text": text })),
            Block::Think(text) => content.push(thinking(&text)),
            Block::Tool { name, input } => {
                content.push(tool_use(content.len(), serial, &name, &input));
            }
            Block::Sleep(more) => wait = wait.map(|wait| wait + more),
            Block::Hang => wait = None,
            Block::Cut => cut = true,
            Block::SseError(kind) => {
                let status = http::StatusCode::INTERNAL_SERVER_ERROR;
                let message = "mid-stream error".to_owned();
                let headers = http::HeaderMap::new();
                let error = HttpError { status, kind, message, headers };
                return Reply::Error(wait.unwrap_or_default(), Box::new(error));
            }
            _ => {}
        }
    }
    let message = draft.message(&content, Some(&draft.stop_reason), &draft.usage.whole());
    let mut body = Bytes::from(message.to_string());
    let length = Some(body.len());
    let mut pieces = VecDeque::new();
    if cut {
        body.truncate(body.len() / 2);
        pieces.push_back(Piece::Bytes(body));
        pieces.extend(Piece::cut());
    } else {
        pieces.push_back(Piece::Bytes(body));
    }
    Reply::Message { after: wait, pieces, length }
}

fn stream(draft: &Draft<'_>, blocks: Vec<Block>, serial: &str) -> VecDeque<Piece> {
    let mut out = Stream { pieces: VecDeque::new(), index: 0 };
    let message = draft.message(&[], None, &draft.usage.at_start());
    out.event("message_start", json!({ "message": message }));
    out.event("ping", json!({}));
    for block in blocks {
        match block {
            Block::Text(text) => {
                let start = json!({ "type": "text", "text": "" });
                let (parts, wait) = draft.slow.map_or((2, None), |(n, wait)| (n, Some(wait)));
                out.block(&start, |out| {
                    for part in parts_of(&text, text.chars().count().div_ceil(parts)) {
                        out.delta(&json!({ "type": "text_delta", "text": part }));
                        out.pieces.extend(wait.map(Piece::Wait));
                    }
                });
            }
            Block::Think(text) => {
                let mut start = thinking("");
                start["signature"] = "".into();
                out.block(&start, |out| {
                    out.delta(&json!({ "type": "thinking_delta", "thinking": text }));
                    out.delta(&json!({ "type": "signature_delta", "signature": SIGNATURE }));
                });
            }
            Block::Tool { name, input } => {
                let start = tool_use(out.index, serial, &name, &json!({}));
                out.block(&start, |out| {
                    for part in parts_of(&input.to_string(), INPUT_PIECE) {
                        out.delta(&json!({ "type": "input_json_delta", "partial_json": part }));
                    }
                });
            }
            Block::Sleep(wait) => out.pieces.push_back(Piece::Wait(wait)),
            Block::Hang => {
                out.pieces.push_back(Piece::Hang);
                return out.pieces;
            }
            Block::Cut => {
                out.pieces.extend(Piece::cut());
                return out.pieces;
            }
            Block::SseError(kind) => {
                let error = json!({ "type": kind, "message": "mid-stream error" });
                out.event("error", json!({ "error": error }));
                return out.pieces;
            }
            _ => {}
        }
    }
    let delta = json!({ "stop_reason": draft.stop_reason, "stop_sequence": null });
    out.event("message_delta", json!({ "delta": delta, "usage": draft.usage.at_end() }));
    out.event("message_stop", json!({}));
    out.pieces
}

/// An event stream being put together.
struct Stream {
    pieces: VecDeque<Piece>,
    index: usize,
}

impl Stream {
    fn event(&mut self, kind: &str, mut data: Value) {
        data["type"] = kind.into();
        let event = format!("event: {kind}\ndata: {data}\n\n");
        self.pieces.push_back(Piece::Bytes(event.into()));
    }

    fn block(&mut self, start: &Value, deltas: impl FnOnce(&mut Self)) {
        let index = self.index;
        self.event("content_block_start", json!({ "index": index, "content_block": start }));
        deltas(self);
        self.event("content_block_stop", json!({ "index": index }));
        self.index += 1;
    }

    fn delta(&mut self, delta: &Value) {
        self.event("content_block_delta", json!({ "index": self.index, "delta": delta }));
    }
}

const SIGNATURE: &str = "ZW11bGF0ZWQ=";

fn thinking(text: &str) -> Value {
    json!({ "type": "thinking", "thinking": text, "signature": SIGNATURE })
}

fn tool_use(index: usize, serial: &str, name: &str, input: &Value) -> Value {
    json!({ "type": "tool_use", "id": format!("toolu_emu_{serial}_{index}"), "name": name, "input": input })
}

/// `text` in parts of `length` characters.
fn parts_of(text: &str, length: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(length.max(1)).map(|part| part.iter().collect()).collect()
}
