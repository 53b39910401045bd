//! Prompts: said to a turn under way, sent twice, killed on their way.

use rclaude_types::EventBody;
use serde_json::{Value, json};

use super::{bash, began, completed, exec, go, patient};
use crate::platform::{Platform, script};

async fn steer(platform: &Platform, id: &str, text: &str) -> String {
    let path = format!("/v1/sessions/{id}/turns");
    let turn = platform.ok("POST", &path, Some(json!({"text": text, "steer": true}))).await;
    turn["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_said_to_a_turn_under_way_reaches_the_model_and_shares_the_turns_end() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    let first = platform.first_turn(&id).await;
    let steered = steer(&platform, &id, "mind the gap").await;
    // It must have reached the agent before its command ends.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    go(&platform, &id).await;
    completed(&platform, &id, &first).await;
    completed(&platform, &id, &steered).await;
    let heard = platform
        .emulator
        .requests()
        .iter()
        .any(|request| String::from_utf8_lossy(&request.body).contains("mind the gap"));
    assert!(heard);
    super::works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_said_to_an_agent_that_then_dies_is_not_lost() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    let first = platform.first_turn(&id).await;
    let steered = steer(&platform, &id, "mind the gap").await;
    platform.kill_in(&id, "claude").await;
    go(&platform, &id).await;
    completed(&platform, &id, &first).await;
    completed(&platform, &id, &steered).await;
    let heard = platform
        .emulator
        .requests()
        .iter()
        .any(|request| String::from_utf8_lossy(&request.body).contains("mind the gap"));
    assert!(heard);
    super::works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_repeated_under_its_key_makes_one_session_and_one_turn() {
    let platform = Platform::start().await;
    let (url, token) = platform.access();
    let http = reqwest::Client::new();
    let post = async |path: &str, key: &str, body: Value| {
        let request = http.post(format!("{url}{path}")).bearer_auth(token);
        let answer = request.header("idempotency-key", key).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let say = script(&json!([[bash("echo once >> log")], [{"text": "done"}]]));
    let body = json!({"permission_mode": "bypassPermissions", "prompt": {"text": say}});
    let tries =
        futures::future::join_all((0..4).map(|_| post("/v1/sessions", "key-1", body.clone())))
            .await;
    let id = tries[0].1["id"].as_str().unwrap();
    assert!(tries.iter().all(|(status, made)| *status == 201 && made["id"] == id), "{tries:?}");
    let turns = format!("/v1/sessions/{id}/turns");
    let more = json!({"text": script(&json!([[bash("echo twice >> log")], [{"text": "done"}]]))});
    let tries =
        futures::future::join_all((0..4).map(|_| post(&turns, "key-2", more.clone()))).await;
    let turn = tries[0].1["id"].as_str().unwrap();
    assert!(tries.iter().all(|(status, made)| *status == 201 && made["id"] == turn), "{tries:?}");
    assert_eq!(post(&turns, "key-2", json!({"text": "other"})).await.0, 422);
    completed(&platform, id, turn).await;
    assert_eq!(exec(&platform, id, "cat log").await, "once\ntwice\n");
    let list = platform.ok("GET", "/v1/sessions", None).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_does_on_its_own_account_is_in_the_log_and_ends_no_turn() {
    let platform = Platform::start().await;
    let later = json!({"tool": "Bash", "input": {
        "command": "until [ -e go ]; do sleep 0.05; done", "run_in_background": true}});
    let say = script(&json!([[later], [{"text": "left running"}], [{"text": "saw it end"}]]));
    let (id, _) = platform.prompt(&say).await;
    go(&platform, &id).await;
    let own = |event: &rclaude_types::Event| {
        let own = event.turn.is_none();
        matches!(&event.body, EventBody::Message { text, .. } if own && text == "saw it end")
            .then_some(())
    };
    platform.event(&id, own).await;
    super::works(&platform, &id).await;
    platform.end().await;
}
