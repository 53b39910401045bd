//! What the agent is told when the model API fails.

use std::time::Duration;

use rclaude_server::gateway::{Credential, GatewayConfig};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{KEY, SECRET, World, emulator};

fn may_retry(response: &Response) -> bool {
    response.headers().get("x-should-retry").is_none_or(|value| value != "false")
}

#[tokio::test]
async fn errors_worth_retrying_pass_untouched() {
    let emulator = emulator().await;
    for status in [400, 404, 413, 429, 500, 503, 529] {
        let world = World::before(&emulator.url()).await;
        let script = json!([[{ "error": status, "message": "scripted",
            "headers": { "retry-after": "7", "anthropic-ratelimit-requests-limit": "50" } }]]);
        let response = world.scripted(&script, true).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert!(may_retry(&response));
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["anthropic-ratelimit-requests-limit"], "50");
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["message"], "scripted");
        assert_eq!(world.record().await.status, status);
    }
}

#[tokio::test]
async fn refusals_pass_with_the_advice_not_to_retry() {
    let emulator = emulator().await;
    for status in [402, 403] {
        let world = World::before(&emulator.url()).await;
        let script = json!([[{ "error": status, "message": "scripted" }]]);
        let response = world.scripted(&script, true).send().await.unwrap();
        assert_eq!((response.status().as_u16(), may_retry(&response)), (status, false));
        assert_eq!(response.json::<Value>().await.unwrap()["error"]["message"], "scripted");
    }
}

#[tokio::test]
async fn a_key_the_api_refuses_is_the_servers_fault_and_not_shown() {
    let emulator = emulator().await;
    let key = Credential::ApiKey("sk-invalid-4711".to_owned());
    let config = GatewayConfig::new(emulator.url().parse().unwrap(), Some(key), SECRET.into());
    let world = World::with(config).await;
    let response = world.scripted(&json!([]), true).send().await.unwrap();
    assert_eq!((response.status().as_u16(), may_retry(&response)), (403, false));
    let text = format!("{:?} {}", response.headers().clone(), response.text().await.unwrap());
    assert!(
        text.contains("The API key configured on the Remote Claude server was refused"),
        "{text}"
    );
    assert!(!text.contains("4711"), "{text}");
    assert_eq!(world.record().await.status, 401);
}

#[tokio::test]
async fn no_answer_of_any_kind_shows_the_key() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let faults = [
        json!({ "text": "Hello" }),
        json!({ "error": 500 }),
        json!({ "drop": true }),
        json!({ "error": 401 }),
        json!({ "error": 403 }),
    ];
    for fault in faults {
        let response = world.scripted(&json!([[fault]]), false).send().await.unwrap();
        let shown = format!("{:?}", response.headers());
        assert!(!(shown + &response.text().await.unwrap()).contains(KEY));
    }
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for upstream in [nobody.as_str(), "http://does-not-exist.invalid"] {
        let world = World::before(upstream).await;
        let response = world.scripted(&json!([]), true).send().await.unwrap();
        assert_eq!((response.status().as_u16(), may_retry(&response)), (502, true));
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["type"], "api_error");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("The model gateway cannot reach the model API"), "{message}");
        let record = world.record().await;
        assert_eq!((record.status, record.interrupted), (502, false));
    }
}

#[tokio::test]
async fn an_api_that_hangs_up_is_a_bad_gateway() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let response = world.scripted(&json!([[{ "drop": true }]]), true).send().await.unwrap();
    assert_eq!((response.status().as_u16(), may_retry(&response)), (502, true));
    assert_eq!(world.record().await.status, 502);
}

#[tokio::test]
async fn an_api_that_does_not_begin_to_answer_times_out() {
    let emulator = emulator().await;
    let key = Some(Credential::ApiKey(KEY.to_owned()));
    let mut config = GatewayConfig::new(emulator.url().parse().unwrap(), key, SECRET.into());
    config.first_byte_timeout = Duration::from_millis(50);
    let world = World::with(config).await;
    let response = world.scripted(&json!([[{ "hang": true }]]), true).send().await.unwrap();
    assert_eq!((response.status().as_u16(), may_retry(&response)), (504, true));
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["type"], "timeout_error");
    assert_eq!(world.record().await.status, 504);
}

#[tokio::test]
async fn a_retry_after_a_fault_succeeds_and_both_are_recorded() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let script = json!([[{ "error": 529, "times": 1 }, { "text": "at last" }]]);
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let response = world.scripted(&script, true).send().await.unwrap();
        statuses.push(response.status().as_u16());
        response.bytes().await.unwrap();
        world.gateway.recorded(&world.session).await;
    }
    let recorded: Vec<_> =
        world.records.0.lock().unwrap().iter().map(|record| record.status).collect();
    assert_eq!((statuses, recorded), (vec![529, 200], vec![529, 200]));
}
