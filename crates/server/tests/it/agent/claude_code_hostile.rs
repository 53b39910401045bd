//! Output that no honest agent prints. Whatever comes, nothing panics, memory stays bounded, and
//! what cannot be understood is kept.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rclaude_server::agent::{MAX_LINE_BYTES, MAX_TEXT_BYTES, Signal, Translator};
use rclaude_types::{EventBody, NoticeLevel};
use serde_json::{Value, json};

use super::recording::{self, Recording};

fn translator() -> Translator {
    Recording::read("simple-answer").translator()
}

fn feed_line(translator: &mut Translator, line: impl AsRef<[u8]>) -> Vec<Signal> {
    let mut line = line.as_ref().to_vec();
    line.push(b'\n');
    translator.feed(&line)
}

fn raw(line: impl Into<Value>) -> Signal {
    Signal::Event(EventBody::Raw { line: line.into() })
}

fn state_bytes(translator: &Translator) -> usize {
    serde_json::to_vec(translator).unwrap().len()
}

#[test]
fn a_line_of_100_megabytes_is_counted_and_what_follows_is_understood() {
    let mut translator = translator();
    let part = vec![b'x'; 1024 * 1024];
    for _ in 0..100 {
        assert_eq!(translator.feed(&part), []);
        assert!(state_bytes(&translator) < 4096);
    }
    let said = translator.feed(
        b"\n{\"type\":\"system\",\"subtype\":\"session_state_changed\",\"state\":\"idle\"}\n",
    );
    let [
        Signal::Event(EventBody::Notice { level: NoticeLevel::Warning, code, message }),
        Signal::Idle,
    ] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert_eq!(code, "line_too_long");
    assert!(message.contains("104857600 bytes"), "{message}");
}

#[test]
fn what_is_not_json_is_kept_as_text() {
    let mut translator = translator();
    assert_eq!(feed_line(&mut translator, "plain words"), [raw("plain words")]);
    assert_eq!(feed_line(&mut translator, "{\"type\":"), [raw("{\"type\":")]);
    assert_eq!(feed_line(&mut translator, b"a\0b"), [raw("a\0b")]);
    assert_eq!(feed_line(&mut translator, b"\xff\xfe ok"), [raw("\u{fffd}\u{fffd} ok")]);
    assert_eq!(feed_line(&mut translator, "[1]"), [raw(json!([1]))]);
    assert_eq!(feed_line(&mut translator, "1e999"), [raw("1e999")]);
    assert_eq!(feed_line(&mut translator, "  \r"), []);
    assert_eq!(translator.feed(b"no newline"), []);
    assert_eq!(translator.finish(), [raw("no newline")]);
}

#[test]
fn deep_nesting_and_long_unknown_lines_are_kept_within_bounds() {
    let mut translator = translator();
    let deep = format!("{{\"type\":\"user\",\"message\":{}", "[".repeat(1_000_000));
    let long = json!({ "type": "new", "data": "ä".repeat(1_000_000) }).to_string();
    for line in [deep, long] {
        let said = feed_line(&mut translator, &line);
        let [Signal::Event(EventBody::Raw { line: Value::String(kept) })] = &said[..] else {
            panic!("{} signals", said.len())
        };
        assert!(kept.len() < MAX_TEXT_BYTES + 100 && kept.ends_with("more bytes are not shown]"));
    }
}

#[test]
fn a_long_output_and_a_long_diff_are_cut_with_a_mark() {
    let big = "line\n".repeat(MAX_LINE_BYTES / 16);
    let line = json!({
        "type": "user",
        "message": { "content": [{ "type": "tool_result", "tool_use_id": "t", "content": big }] },
        "tool_use_result": { "type": "create", "filePath": "/workspace/a", "content": big },
    });
    let said = feed_line(&mut translator(), line.to_string());
    let [Signal::Event(EventBody::ToolResult { output, diffs, .. })] = &said[..] else {
        panic!("{} signals", said.len())
    };
    for text in [output, &diffs[0].patch] {
        assert!(text.len() < MAX_TEXT_BYTES + 100 && text.ends_with("more bytes are not shown]"));
    }
}

#[test]
fn unknown_kinds_are_kept_raw() {
    for line in [
        json!({ "type": "brand_new", "x": 1 }),
        json!({ "type": "system", "subtype": "brand_new" }),
        json!({ "type": "command_lifecycle", "command_uuid": "u", "state": "brand_new" }),
        json!({ "type": "stream_event", "event": { "type": "brand_new" } }),
        json!({ "no": "type" }),
    ] {
        assert_eq!(feed_line(&mut translator(), line.to_string()), [raw(line)]);
    }
    let block = json!({ "type": "brand_new", "x": 1 });
    let line = json!({ "type": "assistant", "message": { "id": "m", "content": [block] } });
    assert_eq!(feed_line(&mut translator(), line.to_string()), [raw(block)]);
}

#[test]
fn a_request_that_nobody_serves_is_refused_so_that_the_agent_does_not_wait() {
    let line = json!({
        "type": "control_request", "request_id": "r",
        "request": { "subtype": "elicitation" },
    });
    let said = feed_line(&mut translator(), line.to_string());
    let [Signal::Reply(bytes), kept] = &said[..] else { panic!("{said:?}") };
    let reply: Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(reply["response"]["subtype"], "error");
    assert_eq!(reply["response"]["request_id"], "r");
    assert_eq!(*kept, raw(line));
}

/// Every place in a value, as a path.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// One line of every shape that was recorded.
fn shapes() -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut lines = Vec::new();
    for recording in recording::all() {
        for line in recording.output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Value = serde_json::from_slice(line).unwrap();
            let mut shape = Vec::new();
            places(&line, "", &mut shape);
            let kind = ["type", "subtype"].map(|key| line[key].to_string());
            let inner = line["event"]["type"].to_string();
            let tool = line["message"]["content"][0]["name"].to_string();
            if seen.insert((kind, inner, tool, shape.len() / 8)) {
                lines.push(line);
            }
        }
    }
    lines
}

#[test]
fn a_wrong_type_anywhere_in_a_known_line_neither_panics_nor_hides_the_line() {
    let wrong = [
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("odd"),
        json!([]),
        json!([[{}]]),
        json!({}),
        json!({ "type": 1 }),
    ];
    let shapes = shapes();
    assert!(shapes.len() > 50, "{}", shapes.len());
    let mut hidden = BTreeSet::new();
    for line in shapes {
        let before = {
            let mut before = translator();
            let parent = &line["parent_tool_use_id"];
            let start = json!({ "type": "stream_event", "parent_tool_use_id": parent,
                "event": { "type": "message_start", "message": { "id": "m" } } });
            feed_line(&mut before, start.to_string());
            before
        };
        let speaks = !feed_line(&mut before.clone(), line.to_string()).is_empty();
        let mut all = Vec::new();
        places(&line, "", &mut all);
        for place in all {
            for wrong in &wrong {
                let mut line = line.clone();
                *line.pointer_mut(&place).unwrap() = wrong.clone();
                let mut translator = before.clone();
                let said = feed_line(&mut translator, line.to_string());
                assert!(state_bytes(&translator) < 64 * 1024);
                // Nothing in the place of something is as good as absent.
                let empty = *wrong == Value::Null || *wrong == "" || *wrong == json!([]);
                if speaks && said.is_empty() && !empty {
                    hidden.insert(format!("{} {place} = {wrong}", line["type"]));
                }
            }
        }
    }
    assert!(hidden.is_empty(), "{hidden:#?}");
}

proptest! {
    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let mut translator = translator();
        translator.feed(&bytes);
        translator.finish();
        prop_assert_eq!(translator.offset(), bytes.len() as u64);
    }
}
