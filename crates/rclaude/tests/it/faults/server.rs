//! The server is killed in the middle of things, and the next one on the same data goes on.

use std::time::Duration;

use rclaude_types::{EventBody, SessionStatus};
use serde_json::json;

use super::{bash, began, completed, exec, go, patient, slow, streaming, works};
use crate::platform::{Platform, script};

/// Kills the server and starts another; what was in the log is there still, in the same order.
async fn crash(platform: &mut Platform, id: &str) {
    let before = platform.events(id).await;
    platform.kill();
    platform.restart().await;
    let after = platform.events(id).await;
    assert_eq!(before, after[..before.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_right_after_it_took_a_prompt_works_on_it() {
    let mut platform = Platform::start().await;
    let say = script(&json!([[bash("echo once >> log")], [{"text": "done"}]]));
    let id = platform.session(json!({"prompt": {"text": say}})).await;
    platform.kill();
    platform.restart().await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "once\n");
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_the_agent_speaks_misses_no_word_and_repeats_none() {
    let mut platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": slow()}})).await;
    streaming(&platform, &id).await;
    crash(&mut platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_a_command_runs_finds_it_running_and_it_ran_once() {
    let mut platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    crash(&mut platform, &id).await;
    assert_eq!(platform.get(&id).await.status, SessionStatus::Working);
    go(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "began\nthrough\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_a_question_is_open_still_takes_the_answer() {
    let mut platform = Platform::start().await;
    let say = script(&json!([[bash("echo once >> log")], [{"text": "done"}]]));
    let request = json!({"permission_mode": "default", "prompt": {"text": say}});
    let id = platform.session(request).await;
    let asked = platform.asked(&id).await;
    crash(&mut platform, &id).await;
    let session = platform.get(&id).await;
    assert_eq!(session.status, SessionStatus::AwaitingInput);
    assert_eq!(session.pending_approvals[0].id.as_str(), asked);
    platform.allow(&id, &asked).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "once\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_right_after_it_took_an_answer_gives_it_to_the_agent_once() {
    let mut platform = Platform::start().await;
    let say = script(&json!([[bash("echo once >> log")], [{"text": "done"}]]));
    let request = json!({"permission_mode": "default", "prompt": {"text": say}});
    let id = platform.session(request).await;
    let asked = platform.asked(&id).await;
    platform.allow(&id, &asked).await;
    platform.kill();
    platform.restart().await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "once\n");
    let resolved = platform.events(&id).await.into_iter().filter(
        |event| matches!(&event.body, EventBody::ApprovalResolved { id, .. } if id.as_str() == asked),
    );
    assert_eq!(resolved.count(), 1);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_right_after_the_last_word_ends_the_turn_once() {
    let mut platform = Platform::start().await;
    let say = script(&json!([[{"text": "the last word"}]]));
    let id = platform.session(json!({"prompt": {"text": say}})).await;
    let last = |event: &rclaude_types::Event| {
        matches!(&event.body, EventBody::Message { text, .. } if text == "the last word")
            .then_some(())
    };
    platform.event(&id, last).await;
    crash(&mut platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_again_and_again_loses_and_doubles_nothing() {
    let mut platform = Platform::start().await;
    let steps: Vec<_> = (1..=12)
        .map(|n| json!([{"text": format!("step {n}")}, bash(&format!("echo {n} >> log"))]))
        .chain([json!([{"text": "done"}])])
        .collect();
    let id = platform.session(json!({"prompt": {"text": script(&json!(steps))}})).await;
    for round in 0..6 {
        tokio::time::sleep(Duration::from_millis(120 + 130 * round)).await;
        crash(&mut platform, &id).await;
    }
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    let numbers: String = (1..=12).map(|n| format!("{n}\n")).collect();
    assert_eq!(exec(&platform, &id, "cat log").await, numbers);
    let events = platform.events(&id).await;
    let mut calls: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolCall { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    calls.sort_unstable();
    calls.dedup();
    assert_eq!(calls.len(), 12);
    let steps = super::said(&events);
    assert_eq!(steps.len(), 13, "{steps:?}");
    platform.end().await;
}
