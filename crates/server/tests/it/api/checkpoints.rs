//! Setting aside, checkpoints and what is made of them: what is taken, and what is refused before
//! any sandbox is asked.

use reqwest::Method;
use serde_json::{Value, json};

use super::rig::{Answer, Server};

/// An id that names nothing.
const NOBODY: &str = "ckp_019a0000000070008000000000000009";

#[tokio::test]
async fn a_pause_goes_as_deep_as_its_body_says() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}/pause");
    let bare = Answer::of(server.request(Method::POST, &path)).await;
    assert_eq!((bare.status.as_u16(), &bare.body["desired"]), (200, &json!("paused")));
    for (depth, desired) in [("hibernate", "hibernated"), ("freeze", "paused")] {
        let paused = server.post(&path, json!({ "depth": depth })).await;
        assert_eq!((paused.status.as_u16(), &paused.body["desired"]), (200, &json!(desired)));
    }
    server.post(&path, json!({ "depth": "deeper" })).await.problem(400, "invalid_request");
    server.post(&path, json!({ "depths": "freeze" })).await.problem(400, "invalid_request");
    let text = server.request(Method::POST, &path).body("freeze");
    Answer::of(text).await.problem(415, "unsupported_media_type");
    server.post("/v1/sessions/nobody/pause", json!({})).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn a_session_without_checkpoints_has_an_empty_list_and_one_that_is_not_there_has_none() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let list = server.get(&format!("/v1/sessions/{id}/checkpoints?limit=5")).await;
    assert_eq!((list.status.as_u16(), &list.body["data"]), (200, &json!([])));
    let nobody = "ses_019a0000000070008000000000000001";
    let list = server.get(&format!("/v1/sessions/{nobody}/checkpoints")).await;
    list.problem(404, "session_not_found");
    let page = server.get(&format!("/v1/sessions/{id}/checkpoints?cursor=x")).await;
    page.problem(400, "invalid_request");
}

#[tokio::test]
async fn what_names_no_checkpoint_of_the_session_is_not_found() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    for reference in [NOBODY, "ckp_1", "latest"] {
        let found = server.get(&format!("/v1/sessions/{id}/checkpoints/{reference}")).await;
        found.problem(404, "checkpoint_not_found");
    }
    let rewound = server.post(&format!("/v1/sessions/{id}/rewind"), json!({ "to": NOBODY })).await;
    rewound.problem(404, "checkpoint_not_found");
    let forked = server.post(&format!("/v1/sessions/{id}/fork"), json!({ "at": NOBODY })).await;
    forked.problem(404, "checkpoint_not_found");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_in_words_that_name_the_field() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let refused = async |path: &str, body: Value, wanted: &str| {
        let answer = server.post(&format!("/v1/sessions/{id}/{path}"), body).await;
        let detail = answer.problem(400, "invalid_request");
        assert!(detail.starts_with(wanted), "{detail} / {wanted}");
    };
    refused("rewind", json!({ "to": NOBODY, "turns": 1 }), "give `to` or `turns`").await;
    refused("rewind", json!({ "turns": 0 }), "turns: is 0").await;
    refused("rewind", json!({ "turns": 3 }), "turns: the session has had 0").await;
    refused("rewind", json!({ "scope": "half" }), "the JSON body: scope").await;
    refused("fork", json!({ "count": 0 }), "count: is 0").await;
    refused("fork", json!({ "count": 101 }), "count: is 101").await;
    refused("fork", json!({ "name": "x".repeat(61) }), "name: has 61").await;
    refused("fork", json!({ "prompt": { "text": " " } }), "prompt.text: must say").await;
    refused("checkpoints", json!({ "note": "" }), "note: must not be empty").await;
}

#[tokio::test]
async fn a_policy_is_replaced_as_a_whole_and_shown() {
    let server = Server::start().await;
    let life = json!({ "idle_seconds": 60, "ttl_seconds": 3600 });
    let id = server.session(json!({ "life": life, "setup": "true" })).await;
    let path = format!("/v1/sessions/{id}");
    let shown = server.get(&path).await.body;
    assert_eq!(
        (&shown["life"]["idle_seconds"], &shown["life"]["ttl_seconds"]),
        (&60.into(), &3600.into())
    );
    assert!(shown["phase_since"].is_string(), "{shown}");
    let change = json!({ "life": { "idle_seconds": 0, "freeze_busy": true } });
    let changed = Answer::of(server.request(Method::PATCH, &path).json(&change)).await.body;
    let wanted = json!({ "idle_seconds": 0, "freeze_busy": true, "on_interrupted": "continue" });
    assert_eq!(changed["life"], wanted);
    let wrong = json!({ "life": { "ttl_seconds": 0 } });
    let wrong = Answer::of(server.request(Method::PATCH, &path).json(&wrong)).await;
    assert!(wrong.problem(400, "invalid_request").starts_with("life.ttl_seconds: is 0"));
}

#[tokio::test]
async fn a_session_may_be_archived_as_every_server_has_a_snapshot_store() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}/pause");
    let session = server.post(&path, json!({ "depth": "archive" })).await.body;
    assert_eq!(session["desired"], "archived");
}
