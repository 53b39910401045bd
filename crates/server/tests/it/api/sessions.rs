//! Sessions: made once, found by whatever names them, listed page by page.

use reqwest::Method;
use serde_json::{Value, json};

use super::rig::{Answer, Server};

#[tokio::test]
async fn a_session_is_made_and_found_by_id_by_prefix_and_by_name() {
    let server = Server::start().await;
    let body = json!({ "name": "brave-otter", "labels": { "team": "core" }, "env": { "A": "b" } });
    let made = server.post("/v1/sessions", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/v1/sessions/{id}"));
    assert_eq!(made.body["env"], json!(["A"]), "names without values");
    for reference in [id, &id[..20], "brave-otter"] {
        let found = server.get(&format!("/v1/sessions/{reference}")).await;
        assert_eq!((found.status.as_u16(), &found.body["id"]), (200, &made.body["id"]));
    }
}

#[tokio::test]
async fn a_taken_name_is_a_conflict() {
    let server = Server::start().await;
    server.session(json!({ "name": "one" })).await;
    let again = server.post("/v1/sessions", json!({ "name": "one" })).await;
    again.problem(409, "name_taken");
}

#[tokio::test]
async fn a_repeated_request_answers_with_the_first_session() {
    let server = Server::start().await;
    let create = |body: Value| {
        let request = server.request(Method::POST, "/v1/sessions");
        Answer::of(request.header("idempotency-key", "key-1").json(&body))
    };
    let first = create(json!({ "model": "a" })).await;
    let again = create(json!({ "model": "a" })).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201));
    assert_eq!(first.body["id"], again.body["id"]);
    create(json!({ "model": "b" })).await.problem(422, "idempotency_mismatch");
    // With a name, too: it is taken by the very session that is asked for.
    let named = || {
        let request = server.request(Method::POST, "/v1/sessions");
        Answer::of(request.header("idempotency-key", "key-2").json(&json!({ "name": "one" })))
    };
    let (first, again) = (named().await, named().await);
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (201, 201), "{}", again.body);
    assert_eq!(first.body["id"], again.body["id"]);
    assert_eq!(server.get("/v1/sessions").await.body["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn another_callers_idempotency_key_is_another_key() {
    let server = Server::start().await;
    let key = server.post("/v1/keys", json!({ "name": "ci" })).await;
    let create = |secret: &str| {
        let request = server.bare(Method::POST, "/v1/sessions").bearer_auth(secret);
        Answer::of(request.header("idempotency-key", "key-1").json(&json!({})))
    };
    let owners = create(&server.token).await;
    let others = create(key.body["secret"].as_str().unwrap()).await;
    assert_ne!(owners.body["id"], others.body["id"]);
}

#[tokio::test]
async fn a_list_is_read_page_by_page_newest_first() {
    let server = Server::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(server.session(json!({})).await);
    }
    made.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/sessions?limit=2".to_owned());
    loop {
        let page = server.get(&path).await.body;
        let data = page["data"].as_array().unwrap();
        seen.extend(data.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sessions?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, made);
    server.get("/v1/sessions?cursor=nonsense").await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_list_is_narrowed_by_labels_that_must_all_be_there() {
    let server = Server::start().await;
    let both = server.session(json!({ "labels": { "a": "1", "b": "2" } })).await;
    server.session(json!({ "labels": { "a": "1" } })).await;
    let listed = async |query: &str| {
        let page = server.get(&format!("/v1/sessions?{query}")).await.body;
        page["data"].as_array().unwrap().len()
    };
    assert_eq!(listed("label=a%3D1").await, 2);
    assert_eq!(listed("label=a%3D1&label=b%3D2").await, 1);
    assert_eq!(listed("label=a%3D2").await, 0);
    let page = server.get("/v1/sessions?label=b%3D2").await.body;
    assert_eq!(page["data"][0]["id"], both);
}

#[tokio::test]
async fn what_a_change_does_not_name_stays() {
    let server = Server::start().await;
    let id = server.session(json!({ "name": "before", "model": "a" })).await;
    let path = format!("/v1/sessions/{id}");
    let change = server.request(Method::PATCH, &path).json(&json!({ "name": "after" }));
    let changed = Answer::of(change).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    assert_eq!((&changed.body["name"], &changed.body["model"]), (&json!("after"), &json!("a")));
}

#[tokio::test]
async fn the_original_endpoints_are_the_same_sessions() {
    let server = Server::start().await;
    let made = server.post("/api/sessions", json!({ "name": "old" })).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let found = server.get("/api/sessions/old").await;
    assert_eq!(found.body["id"], made.body["id"]);
    let paused = server.post("/api/sessions/old/pause", json!({})).await;
    assert_eq!((paused.status.as_u16(), &paused.body["desired"]), (200, &json!("paused")));
    let resumed = server.post("/api/sessions/old/resume", json!({})).await;
    assert_eq!((resumed.status.as_u16(), &resumed.body["desired"]), (200, &json!("running")));
    let gone = Answer::of(server.request(Method::DELETE, "/api/sessions/old")).await;
    assert_eq!(gone.status, 204, "{}", gone.body);
}

#[tokio::test]
async fn the_original_bodies_are_checked_too() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let execute = format!("/api/sessions/{id}/execute");
    server.post(&execute, json!({ "command": [] })).await.problem(400, "invalid_request");
    server.post(&execute, json!({ "command": 1 })).await.problem(400, "invalid_request");
    let chat = format!("/api/sessions/{id}/chat");
    for body in [json!({}), json!({ "message": " " }), json!({ "prompt": "" })] {
        server.post(&chat, body).await.problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn deleting_twice_is_fine() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}");
    for _ in 0..2 {
        let answer = Answer::of(server.request(Method::DELETE, &path)).await;
        assert_eq!(answer.status, 204, "{}", answer.body);
    }
}
