//! The log, by page, by waiting and as server-sent events: every entry once, in order.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::rig::{Answer, Server};

const SOON: Duration = Duration::from_secs(20);

fn seqs(page: &Value) -> Vec<i64> {
    page["data"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect()
}

/// Server-sent events as pairs of id and data.
async fn frames(
    server: &Server,
    path: &str,
    last: Option<&str>,
) -> BoxStream<'static, (i64, Value)> {
    let mut request = server.request(Method::GET, path).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let parse = move |chunk: bytes::Bytes| {
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        let mut found = Vec::new();
        while let Some((frame, rest)) = text.split_once("\n\n") {
            let field = |name| frame.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
                found.push((id.parse().unwrap(), serde_json::from_str(data).unwrap()));
            }
            text = rest.to_owned();
        }
        futures::stream::iter(found)
    };
    response.bytes_stream().map(Result::unwrap).map(parse).flatten().boxed()
}

#[tokio::test]
async fn pages_follow_one_another_by_the_last_seq_seen() {
    let server = Server::start().await;
    let id = server.session(json!({ "name": "log" })).await;
    for model in ["a", "b", "c"] {
        server.happen(&id, model).await;
    }
    let first = server.get(&format!("/v1/sessions/{id}/events?limit=2")).await.body;
    assert_eq!(seqs(&first), [1, 2]);
    assert_eq!(first["data"][0]["type"], "session_created");
    assert_eq!(first["next_cursor"], "2");
    let rest = server.get("/v1/sessions/log/events?after=2").await.body;
    assert_eq!(seqs(&rest)[..2], [3, 4]);
    assert!(rest.get("next_cursor").is_none());
}

#[tokio::test]
async fn a_page_can_be_waited_for() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let last = quiet(&server, &id).await;
    let path = format!("/v1/sessions/{id}/events?after={last}&wait=30");
    let (page, ()) = tokio::join!(server.get(&path), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.happen(&id, "news").await;
    });
    assert_eq!(seqs(&page.body)[0], last + 1);
    let beyond = server.get(&format!("/v1/sessions/{id}/events?after=100000&wait=1")).await;
    assert_eq!(seqs(&beyond.body), [0; 0]);
}

/// Waits until nothing more happens by itself, and gives the last seq.
async fn quiet(server: &Server, id: &str) -> i64 {
    let mut last = 0;
    loop {
        let page = server.get(&format!("/v1/sessions/{id}/events?after={last}&wait=1")).await.body;
        match seqs(&page).last() {
            Some(seq) => last = *seq,
            None => return last,
        }
    }
}

#[tokio::test]
async fn a_stream_has_what_was_and_what_comes() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}/events");
    let mut stream = frames(&server, &path, None).await;
    let (first, body) = timeout(SOON, stream.next()).await.unwrap().unwrap();
    assert_eq!((first, &body["type"]), (1, &json!("session_created")));
    for model in ["a", "b"] {
        server.happen(&id, model).await;
    }
    let mut expected = 2;
    let mut models = Vec::new();
    while models.len() < 2 {
        let (seq, body) = timeout(SOON, stream.next()).await.unwrap().unwrap();
        assert_eq!(seq, expected);
        assert_eq!(body["seq"], seq);
        expected += 1;
        if body["type"] == "settings_changed" {
            models.push(body["model"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(models, ["a", "b"]);
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_its_reader_saw() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    server.happen(&id, "a").await;
    server.happen(&id, "b").await;
    let path = format!("/v1/sessions/{id}/events?after=0");
    let mut stream = frames(&server, &path, Some("2")).await;
    assert_eq!(timeout(SOON, stream.next()).await.unwrap().unwrap().0, 3);
    let request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    let answer = Answer::of(request.header("last-event-id", "x")).await;
    answer.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let stream = frames(&server, &format!("/v1/sessions/{id}/events"), None).await;
    server.begin_to_stop();
    timeout(SOON, stream.count()).await.unwrap();
    timeout(SOON, server.stopped()).await.unwrap();
}

#[tokio::test]
async fn cursors_out_of_bounds_are_refused() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    for query in ["after=-1", "after=x", "limit=0", "limit=1001", "wait=61", "follow=true"] {
        let answer = server.get(&format!("/v1/sessions/{id}/events?{query}")).await;
        answer.problem(400, "invalid_request");
    }
}
