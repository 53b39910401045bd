//! Whatever goes wrong is a problem that says where.

use reqwest::{Body, Method};
use serde_json::json;

use super::rig::{Answer, Server};

#[tokio::test]
async fn an_unknown_route_and_an_unknown_method_are_problems() {
    let server = Server::start().await;
    let detail = server.get("/v1/nothing").await;
    assert!(detail.problem(404, "not_found").contains("GET /v1/nothing"));
    let answer = Answer::of(server.request(Method::PUT, "/v1/sessions")).await;
    assert!(answer.problem(405, "method_not_allowed").contains("PUT /v1/sessions"));
    assert!(answer.header("allow").contains("POST"), "{:?}", answer.headers);
}

#[tokio::test]
async fn malformed_json_is_refused_with_its_place() {
    let server = Server::start().await;
    let send = async |body: &'static str| {
        let request = server.request(Method::POST, "/v1/sessions");
        Answer::of(request.header("content-type", "application/json").body(body)).await
    };
    let answer = send("{\n  \"name\": }").await;
    let detail = answer.problem(400, "invalid_request");
    assert!(detail.contains("line 2 column 11"), "{detail}");
    let answer = send(r#"{"resources": {"cpu_millis": "many"}}"#).await;
    let detail = answer.problem(400, "invalid_request");
    assert!(detail.contains("resources.cpu_millis") && detail.contains("column"), "{detail}");
    let answer = send(r#"{"nmae": "x"}"#).await;
    let detail = answer.problem(400, "invalid_request");
    assert!(detail.contains("nmae") && detail.contains("`name`"), "{detail}");
    send("").await.problem(400, "invalid_request");
    send("{} {}").await.problem(400, "invalid_request");
    send("[]").await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let server = Server::start().await;
    let request = || server.request(Method::POST, "/v1/sessions").body("{}");
    let missing = Answer::of(request()).await;
    missing.problem(415, "unsupported_media_type");
    let form = request().header("content-type", "application/x-www-form-urlencoded");
    Answer::of(form).await.problem(415, "unsupported_media_type");
    let text = request().header("content-type", "text/plain;charset=application/json");
    Answer::of(text).await.problem(415, "unsupported_media_type");
    let json = request().header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(Answer::of(json).await.status, 201);
}

#[tokio::test]
async fn too_large_a_body_is_refused_whether_it_says_so_or_not() {
    let server = Server::start().await;
    let request =
        || server.request(Method::POST, "/v1/sessions").header("content-type", "application/json");
    let large = vec![b' '; (8 << 20) + 1];
    Answer::of(request().body(large.clone())).await.problem(413, "too_large");
    let chunks = large.chunks(1 << 20).map(|it| Ok::<_, std::io::Error>(it.to_vec()));
    let chunks: Vec<_> = chunks.collect();
    let unannounced = Body::wrap_stream(futures::stream::iter(chunks));
    Answer::of(request().body(unannounced)).await.problem(413, "too_large");
}

#[tokio::test]
async fn a_value_out_of_bounds_is_refused_by_the_fields_name() {
    let server = Server::start().await;
    let cases = [
        (json!({ "name": "Not a name" }), "name: "),
        (json!({ "prompt": { "text": "  " } }), "prompt.text: "),
        (json!({ "env": { "A-B": "x" } }), "env.A-B: "),
        (json!({ "resources": { "memory_mib": 1 } }), "resources.memory_mib: "),
        (json!({ "labels": { "": "x" } }), "labels.: "),
    ];
    for (body, start) in cases {
        let answer = server.post("/v1/sessions", body).await;
        let detail = answer.problem(400, "invalid_request");
        assert!(detail.starts_with(start), "{detail}");
    }
    for query in ["limit=0", "limit=201", "limit=ten", "label=x", "colour=red"] {
        let answer = server.get(&format!("/v1/sessions?{query}")).await;
        answer.problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn a_request_has_an_id_of_the_callers_or_of_ours() {
    let server = Server::start().await;
    let request = server.request(Method::GET, "/v1/nothing").header("x-request-id", "mine-1");
    let answer = Answer::of(request).await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    answer.problem(404, "not_found");
    let request = server.request(Method::GET, "/v1/sessions").header("x-request-id", "a b");
    let (first, second) = (Answer::of(request).await, server.get("/v1/sessions").await);
    assert!(first.header("x-request-id").starts_with("req_"));
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn a_malformed_idempotency_key_is_refused() {
    let server = Server::start().await;
    let long = "k".repeat(256);
    for key in ["", "a b", &long] {
        let request = server.request(Method::POST, "/v1/sessions").json(&json!({}));
        let answer = Answer::of(request.header("idempotency-key", key)).await;
        answer.problem(400, "invalid_request");
    }
}

#[tokio::test]
async fn ids_that_name_nothing_are_not_found_each_as_its_own_noun() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let digits = "0".repeat(32);
    let session = |rest: &str| format!("/v1/sessions/{id}/{rest}");
    for (path, code) in [
        (format!("/v1/sessions/ses_{digits}"), "session_not_found"),
        ("/v1/sessions/no-such-name".to_owned(), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/events"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/turns"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/approvals"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/execs"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/usage"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/diff"), "session_not_found"),
        (format!("/v1/sessions/ses_{digits}/files?path=a"), "session_not_found"),
        (session(&format!("turns/trn_{digits}")), "turn_not_found"),
        (session("turns/1"), "turn_not_found"),
        (session(&format!("execs/exe_{digits}")), "exec_not_found"),
    ] {
        let answer = server.get(&path).await;
        assert_eq!(answer.body["code"], code, "{path}: {}", answer.body);
        answer.problem(404, code);
    }
    let approval = session(&format!("approvals/apr_{digits}"));
    let answer = server.post(&approval, json!({ "decision": "allow" })).await;
    answer.problem(404, "approval_not_found");
    let badly_chosen = Answer::of(
        server.request(Method::PUT, &session("execs/mine")).json(&json!({ "command": ["true"] })),
    )
    .await;
    badly_chosen.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_prompt_nobody_could_work_on_is_refused_with_what_to_do() {
    let server = Server::start().await;
    let answer = server.post("/v1/sessions", json!({ "prompt": { "text": "hello" } })).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(!answer.body["detail"].as_str().unwrap().is_empty());
}
