//! The emulator as its clients meet it: over real sockets.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod answers;
mod faults;

use rclaude_emulator::{Emulator, EmulatorHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn emulator() -> EmulatorHandle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Emulator::new().recording().serve(listener).unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().build().unwrap()
}

/// A request whose prompt holds `script`.
fn scripted(script: &Value, stream: bool) -> Value {
    json!({ "model": "claude-opus-5-5", "max_tokens": 100, "stream": stream, "messages": [
        { "role": "user", "content": format!("<<SCRIPT {script} SCRIPT>>") }] })
}

async fn post(emulator: &EmulatorHandle, body: &Value) -> reqwest::Result<reqwest::Response> {
    client().post(format!("{}/v1/messages", emulator.url())).json(body).send().await
}

/// The events of a stream, as name and data.
fn events(text: &str) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data = data.strip_prefix("data: ").unwrap();
        (name.strip_prefix("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
    };
    text.trim_end().split("\n\n").map(event).collect()
}
