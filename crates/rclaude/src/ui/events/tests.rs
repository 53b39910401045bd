//! What a scripted session looks like, on a terminal and without one.

use rclaude_types::Timestamp;
use serde_json::{Value, json};

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn event(seq: i64, body: Value) -> Event {
    let mut event = json!({ "seq": seq, "at": Timestamp::default() });
    event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    serde_json::from_value(event).unwrap()
}

fn tokens() -> Value {
    json!({ "input": 1_200, "output": 340, "cache_read": 9_000, "cache_write_5m": 100,
        "cache_write_1h": 0, "server_tool_requests": 0 })
}

/// A session in which everything happens once.
fn script() -> Vec<Event> {
    let long = (1..=12).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    let approval = json!({
        "id": "apr_019a0000000070008000000000000004",
        "session": "ses_019a0000000070008000000000000001",
        "kind": "permission", "state": "pending", "tool": "Bash",
        "title": "Run `make test`", "input": { "command": "make test\nmake lint", "timeout": 5 },
        "reason": "tests have to pass", "can_always": true, "created_at": "2026-11-21T07:01:00Z"
    });
    let checkpoint = |kind: &str, id: u8| {
        json!({ "type": "checkpoint_created", "checkpoint": {
            "id": format!("ckp_019a0000000{id}70008000000000000004"),
            "session": "ses_019a0000000070008000000000000001",
            "seq": 9, "kind": kind, "note": (kind == "manual").then_some("before\nthe move"),
            "method": "copy", "bytes": 35_000, "frozen_micros": 4_200, "stored": false,
            "created_at": "2026-11-21T07:01:00Z" } })
    };
    let diff = json!({ "files": [{ "path": "src/a.rs", "insertions": 1, "deletions": 1 }],
        "insertions": 1, "deletions": 1 });
    let bodies = [
        json!({ "type": "session_created", "name": "brave-otter", "origin": {
            "session": "ses_019900000000700080000000000000aa",
            "checkpoint": "ckp_019900000001700080000000000000bb" } }),
        json!({ "type": "status_changed", "status": "starting" }),
        json!({ "type": "turn_queued", "text": "fix the bug\nplease" }),
        json!({ "type": "status_changed", "status": "working" }),
        json!({ "type": "turn_started" }),
        json!({ "type": "agent_started", "version": "2.1.0", "model": "opus", "tools": ["Bash"] }),
        json!({ "type": "thought_delta", "id": "t1", "text": "Let me " }),
        json!({ "type": "thought_delta", "id": "t1", "text": "see." }),
        json!({ "type": "thought", "id": "t1", "text": "Let me see." }),
        json!({ "type": "message_delta", "id": "m1", "text": "I'll look " }),
        json!({ "type": "message_delta", "id": "m1", "text": "at it" }),
        json!({ "type": "message", "id": "m1", "role": "assistant", "text": "I'll look at it." }),
        json!({ "type": "tool_call", "id": "c1", "name": "Read", "kind": "read",
            "title": "Read src/a.rs", "input": { "file_path": "src/a.rs" } }),
        json!({ "type": "tool_result", "id": "c1", "output": long }),
        json!({ "type": "tool_call", "id": "c2", "name": "Edit", "kind": "edit",
            "title": "Edit src/a.rs", "input": {} }),
        json!({ "type": "tool_result", "id": "c2", "output": "done", "diffs": [{
            "path": "src/a.rs", "patch": "@@ -1,2 +1,2 @@\n fn a() {\n-    b()\n+    c()\n" }] }),
        json!({ "type": "plan", "entries": [
            { "content": "look", "status": "completed" },
            { "content": "fix", "status": "in_progress" },
            { "content": "test", "status": "pending" } ] }),
        json!({ "type": "approval_requested", "approval": approval }),
        json!({ "type": "approval_resolved", "id": approval["id"], "state": "denied",
            "message": "use ninja" }),
        json!({ "type": "tool_call", "id": "c3", "name": "Bash", "kind": "execute",
            "title": "Run `ninja`", "input": { "command": "ninja" } }),
        json!({ "type": "tool_result", "id": "c3", "is_error": true,
            "output": "\u{1b}[31mninja: no such file\u{1b}[0m" }),
        json!({ "type": "tool_call", "id": "c4", "name": "Bash", "kind": "execute",
            "title": "Run `seq 12`", "input": { "command": "seq 12" } }),
        json!({ "type": "tool_result", "id": "c4", "output": long }),
        json!({ "type": "message", "id": "m2", "role": "assistant", "text": "found", "parent": "c9" }),
        json!({ "type": "notice", "level": "warning", "code": "egress_denied",
            "message": "example.org is not allowed" }),
        json!({ "type": "settings_changed", "model": "sonnet", "permission_mode": "plan" }),
        json!({ "type": "exec_started", "id": "exe_019a0000000070008000000000000005",
            "command": ["ls", "-la"] }),
        json!({ "type": "exec_ended", "id": "exe_019a0000000070008000000000000005",
            "exit_code": 2 }),
        json!({ "type": "raw", "line": { "odd": true } }),
        checkpoint("turn", 1),
        checkpoint("manual", 2),
        json!({ "type": "rewound", "to": "ckp_019a0000000170008000000000000004",
            "before": "ckp_019a0000000370008000000000000004", "scope": "files" }),
        json!({ "type": "rewound",
            "before": "ckp_019a0000000570008000000000000004", "scope": "all" }),
        json!({ "type": "forked", "checkpoint": "ckp_019a0000000170008000000000000004",
            "session": "ses_019a0000000670008000000000000007" }),
        json!({ "type": "status_changed", "status": "paused", "reason": "idle" }),
        json!({ "type": "status_changed", "status": "hibernated" }),
        json!({ "type": "status_changed", "status": "archived", "reason": "age" }),
        json!({ "type": "message", "id": "m3", "role": "assistant", "text": "Fixed.\n" }),
        json!({ "type": "agent_exited", "signal": 9, "reason": "out of memory" }),
        json!({ "type": "turn_ended", "outcome": "failed", "failure": "the agent crashed",
            "tokens": tokens(), "cost": 23_400, "diff": diff }),
        json!({ "type": "status_changed", "status": "failed", "reason": "no more memory" }),
    ];
    (1..).zip(bodies).map(|(seq, body)| event(seq, body)).collect()
}

/// All output in order; what is not data is marked at the start of its lines.
fn rendered(mut renderer: Renderer, events: &[Event], mark: &str) -> String {
    let mut pieces: Vec<_> = events.iter().flat_map(|event| renderer.event(event)).collect();
    pieces.extend(renderer.close());
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Out(piece) => text.push_str(&piece),
            Piece::Err(piece) if text.is_empty() || text.ends_with('\n') => {
                let lines = piece.split_inclusive('\n').map(|line| format!("{mark}{line}"));
                text.extend(lines);
            }
            Piece::Err(piece) => text.push_str(&piece),
        }
    }
    text.replace('\x1b', "␛")
}

fn plain(verbose: bool) -> Renderer {
    Renderer::new(Paint::new(false), false, 60, verbose)
}

fn terminal() -> Renderer {
    Renderer::new(Paint::new(true), true, 60, false)
}

#[test]
fn a_session_on_a_terminal() {
    insta::assert_snapshot!(rendered(terminal(), &script(), ""));
}

#[test]
fn a_session_without_a_terminal() {
    insta::assert_snapshot!(rendered(plain(false), &script(), "2| "));
}

#[test]
fn a_session_in_full() {
    insta::assert_snapshot!(rendered(plain(true), &script(), "2| "));
}

#[test]
fn standard_output_carries_the_assistants_words_alone() {
    let mut renderer = plain(false);
    let out: String = script()
        .iter()
        .flat_map(|event| renderer.event(event))
        .filter_map(|piece| match piece {
            Piece::Out(text) => Some(text),
            Piece::Err(_) => None,
        })
        .collect();
    assert_eq!(out, "I'll look at it.\nFixed.\n");
}

#[test]
fn a_message_whose_beginning_was_missed_is_not_said_again() {
    let mut renderer = plain(false);
    let delta = json!({ "type": "message_delta", "id": "m", "text": "world" });
    let whole = json!({ "type": "message", "id": "m", "role": "assistant", "text": "hello world" });
    let other = json!({ "type": "message", "id": "m", "role": "assistant", "text": "else" });
    let events = [event(1, delta), event(2, whole.clone()), event(3, other)];
    assert_eq!(rendered(renderer, &events[..2], ""), "world\n");
    renderer = plain(false);
    assert_eq!(rendered(renderer, &[events[0].clone(), events[2].clone()], ""), "world\nelse\n");
}

#[test]
fn history_shows_whole_messages_and_goes_on_in_the_middle_of_one() {
    let mut renderer = plain(false);
    renderer.replay();
    let delta = |seq, id: &str, text: &str| {
        event(seq, json!({ "type": "message_delta", "id": id, "text": text }))
    };
    let whole = |seq, id: &str, text: &str| {
        event(seq, json!({ "type": "message", "id": id, "role": "assistant", "text": text }))
    };
    assert_eq!(renderer.event(&delta(1, "a", "one")), []);
    assert_eq!(
        renderer.event(&whole(2, "a", "one")),
        [Piece::Out("one".into()), Piece::Out("\n".into())]
    );
    assert_eq!(renderer.event(&delta(3, "b", "tw")), []);
    assert_eq!(renderer.caught_up(), [Piece::Out("tw".into())]);
    assert_eq!(
        renderer.event(&whole(4, "b", "two")),
        [Piece::Out("o".into()), Piece::Out("\n".into())]
    );
}

#[test]
fn ones_own_prompt_is_not_echoed_and_anothers_is() {
    let mut renderer = plain(false);
    renderer.hide_prompt("mine");
    let queued = |seq, text: &str| event(seq, json!({ "type": "turn_queued", "text": text }));
    assert_eq!(renderer.event(&queued(1, "mine")), []);
    assert_eq!(renderer.event(&queued(2, "mine")), [Piece::Err("› mine\n".into())]);
}
