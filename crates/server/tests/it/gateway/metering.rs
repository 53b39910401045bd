//! What is recorded of a request.

use std::time::Duration;

use rclaude_server::gateway::price_version;
use rclaude_types::{MicroUsd, TokenUsage};
use serde_json::{Value, json};

use super::{World, emulator};

/// A usage whose every field counts, and what it amounts to.
fn usage() -> (Value, TokenUsage, MicroUsd) {
    let said = json!({ "usage": {
        "input_tokens": 11, "output_tokens": 25, "cache_read_input_tokens": 1000,
        "cache_creation": { "ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40 },
    } });
    let tokens = TokenUsage {
        input: 11,
        output: 25,
        cache_read: 1000,
        cache_write_5m: 60,
        cache_write_1h: 40,
        server_tool_requests: 0,
    };
    (said, tokens, MicroUsd(1173))
}

#[tokio::test]
async fn a_message_and_a_stream_are_metered_alike_and_in_full() {
    let emulator = emulator().await;
    let (usage, tokens, cost) = usage();
    for stream in [false, true] {
        let world = World::before(&emulator.url()).await;
        let request = world
            .scripted(&json!([[{ "text": "Hello" }, usage]]), stream)
            .header("x-claude-code-session-id", "conversation")
            .header("x-claude-code-agent-id", "helper");
        let response = request.send().await.unwrap();
        let request_id = response.headers()["request-id"].to_str().unwrap().to_owned();
        response.bytes().await.unwrap();
        let record = world.record().await;
        assert_eq!((record.tokens, record.cost), (tokens, cost), "stream: {stream}");
        assert_eq!(
            (record.status, record.interrupted, record.price_estimated),
            (200, false, false)
        );
        assert_eq!(record.session, world.session);
        assert_eq!(record.model, "claude-sonnet-4-5");
        assert_eq!(record.request_id, Some(request_id));
        assert_eq!(record.agent_session.as_deref(), Some("conversation"));
        assert_eq!(record.agent_id.as_deref(), Some("helper"));
        assert_eq!(record.price_version, price_version());
        assert!(record.started_at <= record.ended_at);
    }
}

#[tokio::test]
async fn a_record_is_under_way_before_the_answers_end_is_seen() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    for n in 1..=20 {
        for stream in [false, true] {
            let script = json!([[{ "text": format!("Hello {n}") }]]);
            world.scripted(&script, stream).send().await.unwrap().bytes().await.unwrap();
            world.gateway.recorded(&world.session).await;
            let expected = 2 * n - usize::from(!stream);
            assert_eq!(world.records.0.lock().unwrap().len(), expected);
        }
    }
}

#[tokio::test]
async fn an_agent_that_hangs_up_pays_for_what_was_streamed() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let (usage, tokens, _) = usage();
    let said = "x".repeat(400);
    let script = json!([[usage, { "text": said }, { "hang": true }]]);
    let mut response = world.scripted(&script, true).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("content_block_stop") {
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().unwrap()).unwrap());
    }
    drop(response);
    let record = world.record().await;
    assert_eq!(record.tokens, TokenUsage { output: 100, ..tokens });
    assert_eq!((record.status, record.interrupted), (200, true));
}

#[tokio::test]
async fn an_agent_that_does_not_wait_for_an_answer_is_recorded_too() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let request = world.scripted(&json!([[{ "hang": true }]]), true).send();
    assert!(tokio::time::timeout(Duration::from_millis(200), request).await.is_err());
    let record = world.record().await;
    assert_eq!((record.status, record.interrupted), (499, true));
    assert_eq!(record.tokens, TokenUsage::default());
    assert_eq!(record.model, "claude-sonnet-4-5");
}

#[tokio::test]
async fn an_answer_that_is_cut_is_recorded_with_what_is_known_and_stays_cut() {
    let emulator = emulator().await;
    let (usage, tokens, _) = usage();
    let cut = json!({ "cut": true });
    let error = json!({ "sse_error": "overloaded_error" });
    for (fault, ends_well) in [(cut, false), (error, true)] {
        let world = World::before(&emulator.url()).await;
        let script = json!([[usage, { "text": "12345678" }, fault]]);
        let response = world.scripted(&script, true).send().await.unwrap();
        assert_eq!(response.bytes().await.is_ok(), ends_well);
        let record = world.record().await;
        assert_eq!(record.tokens, TokenUsage { output: 2, ..tokens });
        assert_eq!((record.status, record.interrupted), (200, true));
    }
}

#[tokio::test]
async fn an_error_is_recorded_without_tokens() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    world.scripted(&json!([[{ "error": 529 }]]), true).send().await.unwrap();
    let record = world.record().await;
    assert_eq!((record.status, record.interrupted), (529, false));
    assert_eq!((record.tokens, record.cost), (TokenUsage::default(), MicroUsd(0)));
    assert_eq!(record.model, "claude-sonnet-4-5");
    assert!(record.request_id.is_some());
}

#[tokio::test]
async fn counting_tokens_and_listing_models_cost_nothing_and_leave_no_record() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let count = world.post("/v1/messages/count_tokens").body("{}").send().await.unwrap();
    assert_eq!(count.json::<Value>().await.unwrap(), json!({ "input_tokens": 1 }));
    world.gateway.recorded(&world.session).await;
    assert!(world.has_no_record());
}

#[tokio::test]
async fn a_model_without_a_price_is_charged_the_dearest() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let body = json!({ "model": "claude-next", "messages": [{ "role": "user", "content": "Hi" }] });
    world.post("/v1/messages").json(&body).send().await.unwrap().bytes().await.unwrap();
    let record = world.record().await;
    assert_eq!((record.model.as_str(), record.price_estimated), ("claude-next", true));
    assert!(record.cost > MicroUsd(0));
}
