use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{client, emulator, events, post, scripted};

#[tokio::test]
async fn an_error_comes_with_its_status_type_and_headers() {
    let emulator = emulator().await;
    let script = json!([[{ "error": 529, "message": "busy", "headers": { "retry-after": "7" } }]]);
    let response = post(&emulator, &scripted(&script, true)).await.unwrap();
    assert_eq!(response.status().as_u16(), 529);
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "busy" } })
    );
}

#[tokio::test]
async fn a_fault_with_times_spares_later_attempts_of_the_same_conversation() {
    let emulator = emulator().await;
    let script = json!([[{ "error": 500, "times": 2 }, { "text": "at last" }]]);
    let attempt = |session: &'static str| {
        let body = scripted(&script, false);
        let url = format!("{}/v1/messages", emulator.url());
        let request = client().post(url).header("x-claude-code-session-id", session).json(&body);
        async { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!([attempt("a").await, attempt("a").await, attempt("a").await], [500, 500, 200]);
    assert_eq!(attempt("b").await, 500);
}

#[tokio::test]
async fn a_dropped_request_gets_no_answer() {
    let emulator = emulator().await;
    let script = json!([[{ "drop": true }]]);
    assert!(post(&emulator, &scripted(&script, true)).await.is_err());
}

#[tokio::test]
async fn a_cut_breaks_the_answer_after_what_was_said() {
    let emulator = emulator().await;
    let script = json!([[{ "text": "so far" }, { "cut": true }, { "text": "never" }]]);
    let mut response = post(&emulator, &scripted(&script, true)).await.unwrap();
    let mut said = Vec::new();
    let end = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk),
            end => break end,
        }
    };
    assert!(end.is_err());
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("so") && !said.contains("never"), "{said}");

    let response = post(&emulator, &scripted(&script, false)).await.unwrap();
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn an_sse_error_ends_the_stream_in_the_middle() {
    let emulator = emulator().await;
    let script = json!([[{ "text": "so far" }, { "sse_error": "overloaded_error" }]]);
    let text = post(&emulator, &scripted(&script, true)).await.unwrap().text().await.unwrap();
    let (name, data) = events(&text).pop().unwrap();
    assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("overloaded_error")));
}

#[tokio::test]
async fn slow_texts_and_sleeps_take_their_time() {
    let emulator = emulator().await;
    let script = json!([[{ "sleep": 0.05 }, { "text": "abcd" }, { "slow": [4, 0.025] }]]);
    let start = Instant::now();
    let mut response = post(&emulator, &scripted(&script, true)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    let mut chunks = 0;
    while response.chunk().await.unwrap().is_some() {
        chunks += 1;
    }
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert!(chunks >= 4, "{chunks}");
}

#[tokio::test]
async fn a_hang_says_nothing_more() {
    let emulator = emulator().await;
    let patience = Duration::from_millis(100);
    let mute = scripted(&json!([[{ "hang": true }]]), true);
    let first = post(&emulator, &mute);
    assert!(tokio::time::timeout(patience, first).await.is_err());

    let script = json!([[{ "text": "hm" }, { "hang": true }]]);
    let mut response = post(&emulator, &scripted(&script, true)).await.unwrap();
    let hung = async { while response.chunk().await.unwrap().is_some() {} };
    assert!(tokio::time::timeout(patience, hung).await.is_err());
}

#[tokio::test]
async fn a_key_that_says_invalid_is_refused() {
    let emulator = emulator().await;
    let url = format!("{}/v1/messages", emulator.url());
    let response =
        client().post(url).bearer_auth("an-invalid-key").body("{}").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}
