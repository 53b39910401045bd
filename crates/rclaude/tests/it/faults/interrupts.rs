//! Stopping: a turn at any of its moments, a session in the middle of one.

use std::time::Duration;

use rclaude_types::{EventBody, Phase, SessionStatus, TurnOutcome};
use serde_json::json;

use super::{bash, began, exec, outcome, patient, slow, streaming, works};
use crate::platform::{Platform, script};

async fn interrupt(platform: &Platform, id: &str) {
    platform.ok("POST", &format!("/v1/sessions/{id}/interrupt"), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_stops_an_answer_in_mid_word() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": slow()}})).await;
    streaming(&platform, &id).await;
    interrupt(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    assert_eq!(outcome(&platform, &id, &turn).await, TurnOutcome::Interrupted);
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_stops_the_command_that_runs() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    interrupt(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    assert_eq!(outcome(&platform, &id, &turn).await, TurnOutcome::Interrupted);
    works(&platform, &id).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "began\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_takes_an_open_question_back() {
    let platform = Platform::start().await;
    let say = script(&json!([[bash("echo never >> log")], [{"text": "done"}]]));
    let request = json!({"permission_mode": "default", "prompt": {"text": say}});
    let id = platform.session(request).await;
    let asked = platform.asked(&id).await;
    interrupt(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    assert_eq!(outcome(&platform, &id, &turn).await, TurnOutcome::Interrupted);
    assert!(platform.get(&id).await.pending_approvals.is_empty());
    let path = format!("/v1/sessions/{id}/approvals/{asked}");
    let (status, problem) = platform.call("POST", &path, Some(json!({"decision": "allow"}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_right_after_the_prompt_stops_it_whatever_it_had_come_to() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    works(&platform, &id).await;
    for wait in [0, 1, 3, 10, 30, 100, 300] {
        let turn = platform.send(&id, &slow()).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        interrupt(&platform, &id).await;
        let outcome = outcome(&platform, &id, &turn).await;
        assert!(
            matches!(outcome, TurnOutcome::Interrupted | TurnOutcome::Cancelled),
            "{outcome:?}"
        );
    }
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_while_the_agent_starts_stops_the_turn() {
    let platform = Platform::start().await;
    for wait in [0, 20, 80, 200, 400] {
        let id = platform.session(json!({"prompt": {"text": slow()}})).await;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        interrupt(&platform, &id).await;
        let turn = platform.first_turn(&id).await;
        let outcome = outcome(&platform, &id, &turn).await;
        assert!(
            matches!(outcome, TurnOutcome::Interrupted | TurnOutcome::Cancelled),
            "{outcome:?}"
        );
        works(&platform, &id).await;
    }
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_of_an_idle_session_does_not_touch_the_next_turn() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    interrupt(&platform, &id).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let turn = platform.send(&id, &slow()).await;
    super::completed(&platform, &id, &turn).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_turn_can_be_taken_back_and_a_running_one_cannot() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    let running = platform.first_turn(&id).await;
    let queued = platform.send(&id, &script(&json!([[bash("echo never >> log")]]))).await;
    let next = platform.send(&id, &script(&json!([[{"text": "next"}]]))).await;
    let path = |turn: &str| format!("/v1/sessions/{id}/turns/{turn}");
    assert_eq!(platform.call("DELETE", &path(&running), None).await.0, 409);
    assert_eq!(platform.call("DELETE", &path(&queued), None).await.0, 200);
    super::go(&platform, &id).await;
    assert_eq!(outcome(&platform, &id, &queued).await, TurnOutcome::Cancelled);
    super::completed(&platform, &id, &running).await;
    super::completed(&platform, &id, &next).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "began\nthrough\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stopped_in_mid_turn_ends_the_turn_and_takes_the_next_prompt() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    platform
        .ok("POST", &format!("/v1/sessions/{id}/pause"), Some(json!({"depth": "hibernate"})))
        .await;
    let turn = platform.first_turn(&id).await;
    assert_eq!(outcome(&platform, &id, &turn).await, TurnOutcome::Interrupted);
    works(&platform, &id).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "began\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_deleted_in_mid_turn_leaves_nothing_and_its_followers_are_told() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    let mut follower = platform.follow(&id, 0).await;
    assert_eq!(platform.call("DELETE", &format!("/v1/sessions/{id}"), None).await.0, 204);
    let mut last = None;
    while let Some(event) = follower.next().await {
        last = Some(event.body);
    }
    let deleted = EventBody::StatusChanged { status: SessionStatus::Deleted, reason: None };
    assert_eq!(last, Some(deleted));
    let sandboxes = platform.data().join("engine/sandboxes");
    platform
        .until("the sandbox is gone", || {
            (std::fs::read_dir(&sandboxes).unwrap().count() == 0).then_some(())
        })
        .await;
    assert_eq!(platform.get(&id).await.phase, Phase::Destroyed);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_also_takes_back_what_was_said_to_the_turn_and_not_heard_yet() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    let path = format!("/v1/sessions/{id}/turns");
    let text = script(&json!([[bash("echo never >> log")], [{"text": "never"}]]));
    let said = platform.ok("POST", &path, Some(json!({"text": text, "steer": true}))).await;
    // It must be with the agent before the interrupt is.
    tokio::time::sleep(Duration::from_millis(300)).await;
    interrupt(&platform, &id).await;
    let interrupted = TurnOutcome::Interrupted;
    assert_eq!(outcome(&platform, &id, &turn).await, interrupted);
    assert_eq!(outcome(&platform, &id, said["id"].as_str().unwrap()).await, interrupted);
    works(&platform, &id).await;
    assert_eq!(exec(&platform, &id, "cat log").await, "began\n");
    platform.end().await;
}
