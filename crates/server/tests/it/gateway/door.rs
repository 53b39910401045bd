//! Who may pass, and where to.

use rclaude_server::gateway::{Credential, GatewayConfig, GatewayError, SessionTokens};
use rclaude_types::SessionId;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::{KEY, SECRET, World, client, emulator};

/// Status, whether it may be retried, error type and message.
async fn refusal(request: RequestBuilder) -> (u16, bool, String, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let retry = response.headers().get("x-should-retry").is_none_or(|v| v != "false");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["type"], "error");
    let text = |key: &str| body["error"][key].as_str().unwrap().to_owned();
    (status, retry, text("type"), text("message"))
}

#[tokio::test]
async fn the_token_is_taken_from_either_header_and_never_passed_on() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let url = format!("{}/v1/models?limit=5", world.url);
    let bearer = client().get(&url).bearer_auth(&world.token);
    let api_key = client().get(&url).header("x-api-key", &world.token);
    for request in [bearer, api_key] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    let requests = emulator.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.target, "/v1/models?limit=5");
        assert_eq!(request.headers["x-api-key"], KEY);
        assert!(!format!("{:?}", request.headers).contains(&world.token));
    }
}

#[tokio::test]
async fn only_the_token_of_the_connections_own_session_opens() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    let messages = || client().post(format!("{}/v1/messages", world.url)).body("{}");
    let other = SessionTokens::new(SECRET).mint(&SessionId::generate());
    for request in [messages(), messages().bearer_auth("wrong"), messages().bearer_auth(other)] {
        let (status, retry, kind, _) = refusal(request).await;
        assert_eq!((status, retry, kind.as_str()), (401, false, "authentication_error"));
    }
    assert!(emulator.requests().is_empty());
    assert!(world.has_no_record());
}

#[tokio::test]
async fn what_is_not_offered_is_refused_with_what_is() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    for path in ["/v1/files", "/v1/messages/batches", "/v1/messages/", "/v1/complete"] {
        let (status, retry, kind, message) = refusal(world.post(path)).await;
        assert_eq!((status, retry, kind.as_str()), (404, false, "not_found_error"));
        assert!(message.contains(path) && message.contains("POST /v1/messages"), "{message}");
    }
    assert!(emulator.requests().is_empty());
}

#[tokio::test]
async fn anybody_may_look_whether_the_gateway_is_there() {
    let emulator = emulator().await;
    let world = World::before(&emulator.url()).await;
    for request in [client().get(&world.url), client().head(&world.url)] {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }
    assert!(emulator.requests().is_empty());
}

#[tokio::test]
async fn a_bearer_credential_is_sent_as_one_and_a_path_is_kept() {
    let emulator = emulator().await;
    let upstream = format!("{}/anthropic/", emulator.url()).parse().unwrap();
    let key = Credential::Bearer("upstream-token".to_owned());
    let world = World::with(GatewayConfig::new(upstream, Some(key), SECRET.into())).await;
    world.post("/v1/messages?beta=true").body("{}").send().await.unwrap();
    let requests = emulator.requests();
    let [request] = &requests[..] else { panic!("one request") };
    assert_eq!(request.target, "/anthropic/v1/messages?beta=true");
    assert_eq!(request.headers["authorization"], "Bearer upstream-token");
    assert!(!request.headers.contains_key("x-api-key"));
}

#[tokio::test]
async fn without_a_key_the_agent_is_told_what_is_missing() {
    let upstream = "http://127.0.0.1:9".parse().unwrap();
    let world = World::with(GatewayConfig::new(upstream, None, SECRET.into())).await;
    let (status, retry, _, message) = refusal(world.scripted(&json!([]), true)).await;
    assert_eq!((status, retry), (403, false));
    assert!(message.contains("No API key"), "{message}");
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_whether_announced_or_not() {
    let emulator = emulator().await;
    let key = Some(Credential::ApiKey(KEY.to_owned()));
    let mut config = GatewayConfig::new(emulator.url().parse().unwrap(), key, SECRET.into());
    config.request_limit = 1 << 20;
    let world = World::with(config).await;
    let chunks =
        || futures::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>("x".repeat(1 << 15))));
    let announced = world.post("/v1/messages").body("x".repeat(2 << 20));
    let streamed = world.post("/v1/messages").body(reqwest::Body::wrap_stream(chunks()));
    for request in [announced, streamed] {
        let (status, retry, kind, message) = refusal(request).await;
        assert_eq!((status, retry, kind.as_str()), (413, false, "request_too_large"));
        assert!(message.contains("1 MiB"), "{message}");
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_once() {
    use std::sync::Arc;

    use rclaude_server::{clock::SystemClock, gateway::Gateway};

    let new = |config: GatewayConfig| {
        let records = Arc::new(super::Records::default());
        let clock = Arc::new(SystemClock::default());
        Gateway::new(&config, records, clock, tokio_util::task::TaskTracker::new()).unwrap_err()
    };
    let config = |url: &str, key: &str| {
        let key = Some(Credential::ApiKey(key.to_owned()));
        GatewayConfig::new(url.parse().unwrap(), key, SECRET.into())
    };
    assert!(matches!(new(config("ftp://example.com", "k")), GatewayError::Upstream(_)));
    assert!(matches!(new(config("http://localhost", "k\n")), GatewayError::Credential));
    let mut missing = config("http://localhost", "k");
    missing.ca_bundle = Some("/does/not/exist.pem".into());
    assert!(matches!(new(missing), GatewayError::CaBundle { .. }));
    assert_eq!(format!("{:?}", Credential::ApiKey("secret".into())), "ApiKey(…)");
}
