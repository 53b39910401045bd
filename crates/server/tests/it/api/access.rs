//! Who may ask, from where, and by which name.

use reqwest::Method;
use serde_json::json;

use super::rig::{Answer, Server};

#[tokio::test]
async fn without_credentials_or_with_wrong_ones_nobody_gets_in() {
    let server = Server::start().await;
    let path = "/v1/sessions";
    let none = Answer::of(server.bare(Method::GET, path)).await;
    none.problem(401, "unauthenticated");
    assert!(none.header("www-authenticate").starts_with("Bearer"));
    for wrong in ["", "x", "rck_0000000000000000000000000000000000000000000", &server.token[1..]] {
        let answer = Answer::of(server.bare(Method::GET, path).bearer_auth(wrong)).await;
        answer.problem(401, "unauthenticated");
    }
    let basic = server.bare(Method::GET, path).basic_auth("owner", Some(&server.token));
    Answer::of(basic).await.problem(401, "unauthenticated");
    let in_query = format!("{path}?access_token={}", server.token);
    Answer::of(server.bare(Method::GET, &in_query)).await.problem(401, "unauthenticated");
    assert_eq!(server.get(path).await.status, 200);
}

#[tokio::test]
async fn an_api_key_opens_the_door_until_it_is_revoked() {
    let server = Server::start().await;
    let made = server.post("/v1/keys", json!({ "name": "ci" })).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let secret = made.body["secret"].as_str().unwrap();
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/v1/keys/{id}"));
    assert_eq!(secret.len(), "rck_".len() + 43);

    let by_key = |path: &str| server.bare(Method::GET, path).bearer_auth(secret);
    assert_eq!(Answer::of(by_key("/v1/sessions")).await.status, 200);
    Answer::of(by_key("/v1/keys")).await.problem(403, "forbidden");

    let listed = server.get("/v1/keys").await.body;
    assert_eq!(listed["data"][0]["name"], "ci");
    assert_eq!(listed["data"][0]["hint"], secret[..8]);
    assert!(listed["data"][0]["last_used_at"].is_string());
    assert!(listed["data"][0].get("secret").is_none());

    let path = format!("/v1/keys/{id}");
    for _ in 0..2 {
        assert_eq!(Answer::of(server.request(Method::DELETE, &path)).await.status, 204);
    }
    Answer::of(by_key("/v1/sessions")).await.problem(401, "unauthenticated");
    let unknown = format!("/v1/keys/key_{}", "0".repeat(32));
    Answer::of(server.request(Method::DELETE, &unknown)).await.problem(404, "key_not_found");
}

#[tokio::test]
async fn a_key_cannot_make_itself_a_successor() {
    let server = Server::start().await;
    let made = server.post("/v1/keys", json!({ "name": "ci" })).await;
    let secret = made.body["secret"].as_str().unwrap();
    let request = server.bare(Method::POST, "/v1/keys").bearer_auth(secret);
    let answer = Answer::of(request.json(&json!({ "name": "heir" }))).await;
    answer.problem(403, "forbidden");
}

#[tokio::test]
async fn probes_need_no_credentials_and_metrics_do() {
    let server = Server::start().await;
    assert_eq!(Answer::of(server.bare(Method::GET, "/healthz")).await.status, 200);
    let ready = Answer::of(server.bare(Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 200, "{}", ready.body);
    Answer::of(server.bare(Method::GET, "/metrics")).await.problem(401, "unauthenticated");
    let metrics = server.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
    assert!(metrics.body.is_string());
}

#[tokio::test]
async fn a_rebound_name_is_refused_before_anything_else() {
    let server = Server::start().await;
    for path in ["/v1/sessions", "/healthz", "/nothing"] {
        let request = server.request(Method::GET, path).header("host", "evil.example");
        Answer::of(request).await.problem(403, "forbidden");
    }
    let request = server.request(Method::GET, "/v1/sessions").header("host", "localhost:1");
    assert_eq!(Answer::of(request).await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let server = Server::start().await;
    let create = |origin: &str| {
        let request = server.request(Method::POST, "/v1/sessions").header("origin", origin);
        Answer::of(request.json(&json!({})))
    };
    create("https://evil.example").await.problem(403, "forbidden");
    create("null").await.problem(403, "forbidden");
    assert_eq!(create(&format!("http://{}", server.authority())).await.status, 201);
    let read = server.request(Method::GET, "/v1/sessions").header("origin", "https://evil.example");
    let read = Answer::of(read).await;
    assert!(!read.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn every_answer_keeps_browsers_careful() {
    let server = Server::start().await;
    for answer in [
        server.get("/v1/sessions").await,
        server.get("/nothing").await,
        Answer::of(server.bare(Method::GET, "/healthz")).await,
    ] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
    }
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let server = Server::start().await;
    let status = server.get("/v1/status").await;
    assert_eq!(status.status, 200, "{}", status.body);
    assert_eq!(status.body["llm_upstream"], "none");
}
