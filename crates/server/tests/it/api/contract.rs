//! The golden contract, `openapi/rclaude.json`, and the server beside it.

use std::{env, fs, path::Path};

use rclaude_server::api::openapi;
use reqwest::Method;
use serde_json::Value;

use super::rig::{Answer, Server};

fn contract() -> Value {
    serde_json::from_str(openapi::json()).unwrap()
}

/// All operations: method, path, description.
fn operations(contract: &Value) -> Vec<(Method, &str, &Value)> {
    let paths = contract["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(move |(method, operation)| {
            (method.to_uppercase().parse().unwrap(), path.as_str(), operation)
        })
    });
    operations.collect()
}

#[test]
fn the_contract_in_the_repository_is_what_the_handlers_say() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/rclaude.json");
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&golden, openapi::json()).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        kept == openapi::json(),
        "openapi/rclaude.json is out of date; run this test with UPDATE_OPENAPI=1 and review the \
         difference"
    );
}

#[test]
fn every_operation_says_how_it_may_fail_and_is_named_once() {
    let contract = contract();
    let mut names = Vec::new();
    for (method, path, operation) in operations(&contract) {
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "403", "500"] {
            assert!(responses.contains_key(status), "{method} {path} lacks {status}");
        }
        let problems = responses.iter().filter(|(status, _)| status.starts_with(['4', '5']));
        for (status, response) in problems {
            let too_long = ["414", "431"].contains(&status.as_str());
            let name = if too_long { "TooLong" } else { "Problem" };
            let reference = format!("#/components/responses/{name}");
            assert_eq!(response["$ref"], reference, "{method} {path} {status}");
        }
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let has_key = parameters.iter().any(|it| it["name"] == "idempotency-key");
        assert_eq!(has_key, method == Method::POST, "{method} {path}");
        for part in path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}')) {
            let described = parameters.iter().any(|it| it["name"] == part && it["in"] == "path");
            assert!(described, "{method} {path}");
        }
        names.push(operation["operationId"].as_str().unwrap());
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[tokio::test]
async fn every_operation_is_served_and_asks_for_credentials_unless_it_says_otherwise() {
    let contract = contract();
    let server = Server::start().await;
    let public = ["/healthz", "/readyz", "/v1/openapi.json"];
    for (method, path, operation) in operations(&contract) {
        let open = public.contains(&path);
        assert_eq!(operation.get("security").is_some(), open, "{method} {path}");
        let place = path.replace(['{', '}'], "");
        let answer = Answer::of(server.bare(method.clone(), &place)).await;
        if open {
            assert_eq!(answer.status, 200, "{method} {path}");
        } else {
            answer.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn the_server_tells_its_own_contract() {
    let server = Server::start().await;
    let answer = Answer::of(server.bare(Method::GET, "/v1/openapi.json")).await;
    assert_eq!(answer.body, contract());
    assert_eq!(answer.header("content-type"), "application/json");
}

#[test]
fn the_original_endpoints_are_in_the_contract() {
    let contract = contract();
    let all: Vec<_> =
        operations(&contract).iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    for wanted in [
        "POST /api/sessions",
        "GET /api/sessions/{session}",
        "DELETE /api/sessions/{session}",
        "POST /api/sessions/{session}/execute",
        "POST /api/sessions/{session}/chat",
        "POST /api/sessions/{session}/pause",
        "POST /api/sessions/{session}/resume",
        "GET /api/sessions/{session}/files",
    ] {
        assert!(all.iter().any(|it| it == wanted), "{wanted}");
    }
}
