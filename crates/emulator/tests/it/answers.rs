use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{client, emulator, events, post, scripted};

#[tokio::test]
async fn a_message_holds_the_scripts_blocks_and_its_usage() {
    let emulator = emulator().await;
    let script = json!([[
        { "think": "hm" }, { "text": "Hello" }, { "tool": "Bash", "input": { "command": "ls" } },
        { "usage": { "input_tokens": 11, "output_tokens": 25,
                     "cache_creation": { "ephemeral_5m_input_tokens": 60,
                                         "ephemeral_1h_input_tokens": 40 } } }
    ]]);
    let response = post(&emulator, &scripted(&script, false)).await.unwrap();
    assert!(response.headers().contains_key("request-id"));
    let message: Value = response.json().await.unwrap();
    let kinds: Vec<_> = message["content"].as_array().unwrap().iter().map(|b| &b["type"]).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use"]);
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(
        message["usage"],
        json!({ "input_tokens": 11, "output_tokens": 25, "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 0, "service_tier": "standard",
                "cache_creation": { "ephemeral_5m_input_tokens": 60,
                                    "ephemeral_1h_input_tokens": 40 } })
    );
}

#[tokio::test]
async fn a_stream_tells_the_same_message_in_the_apis_order() {
    let emulator = emulator().await;
    let script = json!([[
        { "text": "Hello, you" }, { "tool": "Read", "input": { "file_path": "/x" } },
        { "usage": { "input_tokens": 11, "output_tokens": 25,
                     "server_tool_use": { "web_search_requests": 2 } } }
    ]]);
    let text = post(&emulator, &scripted(&script, true)).await.unwrap().text().await.unwrap();
    let events = events(&text);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(events.iter().all(|(name, data)| data["type"] == *name));
    assert_eq!(events[0].1["message"]["usage"]["output_tokens"], 1);
    assert_eq!(events[7].1["delta"]["partial_json"], r#"{"file_path":"/x"}"#);
    assert_eq!(
        events[9].1["usage"],
        json!({ "input_tokens": 11, "output_tokens": 25, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0, "server_tool_use": { "web_search_requests": 2 } })
    );
}

#[tokio::test]
async fn the_conversation_is_read_from_the_cache_when_the_request_caches() {
    let emulator = emulator().await;
    let text = |text: &str| {
        json!([{ "type": "text", "text": text,
                                     "cache_control": { "type": "ephemeral" } }])
    };
    let mut body = scripted(&json!([[]]), false);
    body["messages"][0]["content"] = text("first");
    let emulator = &emulator;
    let usage = |body: Value| async move {
        post(emulator, &body).await.unwrap().json::<Value>().await.unwrap()["usage"].clone()
    };
    let first = usage(body.clone()).await;
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": "answer" }));
    messages.push(json!({ "role": "user", "content": text("second") }));
    let second = usage(body).await;
    assert_eq!((&first["input_tokens"], &first["cache_read_input_tokens"]), (&json!(0), &json!(0)));
    assert!(first["cache_creation_input_tokens"].as_u64() > Some(20));
    assert!(second["cache_read_input_tokens"].as_u64() > Some(20));
}

#[tokio::test]
async fn a_request_without_tools_or_script_gets_plain_text() {
    let emulator = emulator().await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": "A title?" }] });
    let message: Value = post(&emulator, &body).await.unwrap().json().await.unwrap();
    assert_eq!(message["content"], json!([{ "type": "text", "text": "Emulated answer" }]));
    assert_eq!(message["stop_reason"], "end_turn");
}

#[tokio::test]
async fn the_other_endpoints_answer_and_unknown_ones_do_not() {
    let emulator = emulator().await;
    let get = |path| client().get(format!("{}{path}", emulator.url())).send();
    let models: Value = get("/v1/models").await.unwrap().json().await.unwrap();
    assert_eq!(models["data"][0]["id"], "claude-opus-5-5");
    assert_eq!(get("/").await.unwrap().status(), StatusCode::OK);
    assert_eq!(client().head(emulator.url()).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(get("/v1/files").await.unwrap().status(), StatusCode::NOT_FOUND);
    let url = format!("{}/v1/messages/count_tokens", emulator.url());
    let count: Value =
        client().post(url).body("x".repeat(40)).send().await.unwrap().json().await.unwrap();
    assert_eq!(count, json!({ "input_tokens": 10 }));
}

#[tokio::test]
async fn requests_are_recorded_as_they_arrived() {
    let emulator = emulator().await;
    let url = format!("{}/v1/messages?beta=true", emulator.url());
    client().post(url).header("x-api-key", "k").body("{}").send().await.unwrap();
    let requests = emulator.requests();
    let [request] = &requests[..] else { panic!("one request") };
    assert_eq!(request.target, "/v1/messages?beta=true");
    assert_eq!(
        (&request.headers["x-api-key"], &request.body[..]),
        (&"k".parse().unwrap(), &b"{}"[..])
    );
    emulator.shutdown().await;
}
