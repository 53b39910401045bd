//! Agents that misbehave: a shell script stands in for the real one.

use std::time::Instant;

use rclaude_types::{EventBody, TurnOutcome};
use serde_json::json;

use crate::platform::{Agent, Platform};

async fn with(script: &str) -> Platform {
    Platform::start_with(Agent::Script(&format!("#!/bin/bash\n{script}\n")), &[]).await
}

/// Sends a prompt; how its turn ended.
async fn prompt(platform: &Platform, id: &str) -> (TurnOutcome, Option<String>) {
    let turn = platform.send(id, "hello").await;
    let EventBody::TurnEnded { outcome, failure, .. } = platform.ended(id, &turn).await else {
        unreachable!()
    };
    (outcome, failure)
}

/// How often the agent was started, by the script's own count.
async fn starts(platform: &Platform, id: &str) -> usize {
    let ran = platform.run(&["exec", id, "--", "cat", "/home/agent/starts"]).await;
    ran.stdout.lines().count()
}

/// What a well-behaved agent does, in as few lines as can be: it reads prompts and answers them.
const ANSWERS: &str = r#"
while IFS= read -r line; do
    case "$line" in *'"type":"user"'*) ;; *) continue ;; esac
    uuid=${line##*'"uuid":"'} uuid=${uuid%%'"'*}
    printf '%s\n' '{"type":"system","subtype":"session_state_changed","state":"running"}' \
        "{\"type\":\"command_lifecycle\",\"command_uuid\":\"$uuid\",\"state\":\"started\"}" \
        '{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"hello back"}]}}' \
        '{"type":"result","subtype":"success","is_error":false,"result":"hello back"}' \
        '{"type":"system","subtype":"session_state_changed","state":"idle"}'
done"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_exits_at_once_is_tried_three_times_and_its_turn_fails_with_the_reason() {
    let platform = with("echo x >> ~/starts; exit 7").await;
    let id = platform.session(json!({})).await;
    let (outcome, failure) = prompt(&platform, &id).await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(failure.as_ref().unwrap().contains("exited with code 7"), "{failure:?}");
    assert_eq!(starts(&platform, &id).await, 3);
    // The next prompt is another try, with the same bound.
    assert_eq!(prompt(&platform, &id).await.0, TurnOutcome::Failed);
    assert_eq!(starts(&platform, &id).await, 6);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_crashes_once_is_started_again_and_answers() {
    let crash = "echo x >> ~/starts; [ $(wc -l < ~/starts) = 1 ] && kill -SEGV $$";
    let platform = with(&format!("{crash}\n{ANSWERS}")).await;
    let id = platform.session(json!({})).await;
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    assert_eq!(starts(&platform, &id).await, 2);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_prints_that_makes_no_sense_is_kept_and_does_no_harm() {
    let garbage =
        r#"printf 'no json\n{"type":"nobody knows"}\n{"half":\n\xff\xfe\x00\n[[[[1]]]]\n""\n'"#;
    let platform = with(&format!("{garbage}\n{ANSWERS}")).await;
    let id = platform.session(json!({})).await;
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    let raw = platform.events(&id).await.into_iter().filter_map(|event| match event.body {
        EventBody::Raw { line } => Some(line),
        _ => None,
    });
    let raw: Vec<_> = raw.collect();
    assert!(raw.contains(&json!("no json")), "{raw:?}");
    assert!(raw.contains(&json!({"type": "nobody knows"})), "{raw:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_hundred_megabytes_is_passed_over_and_the_server_stays_small() {
    let line = "head -c 100000000 /dev/zero | tr '\\0' x; echo";
    let platform = with(&format!("{line}\n{ANSWERS}")).await;
    let id = platform.session(json!({})).await;
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    platform
        .event(&id, |event| match &event.body {
            EventBody::Notice { code, .. } if code == "line_too_long" => Some(()),
            _ => None,
        })
        .await;
    let peak = platform.peak_memory_mib();
    assert!(peak < 256, "{peak} MiB");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_standard_error_is_bounded_and_the_turn_goes_on() {
    let flood = "for i in $(seq 20000); do echo \"Error: something is wrong, number $i\" >&2; done";
    let platform = with(&format!("{flood}\n{ANSWERS}")).await;
    let id = platform.session(json!({})).await;
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    let events = platform.events(&id).await;
    assert!(events.len() < 2_000, "{} events", events.len());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_heeds_no_interrupt_is_ended_and_the_next_prompt_starts_another() {
    let deaf = "echo x >> ~/starts; [ $(wc -l < ~/starts) = 1 ] && { trap '' INT TERM HUP; \
                while :; do sleep 1000; done; }";
    let platform = with(&format!("{deaf}\n{ANSWERS}")).await;
    let id = platform.session(json!({"prompt": {"text": "hello"}})).await;
    let turn = platform.first_turn(&id).await;
    while platform.processes_of(&id, "sleep").await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let asked = Instant::now();
    platform.ok("POST", &format!("/v1/sessions/{id}/interrupt"), None).await;
    let ended = platform.ended(&id, &turn).await;
    assert!(matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Interrupted, .. }));
    assert!(asked.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(prompt(&platform, &id).await, (TurnOutcome::Completed, None));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_reads_nothing_does_not_hold_up_its_session() {
    let platform = with("exec sleep 1000").await;
    let long = "word ".repeat(400_000);
    let id = platform.session(json!({"prompt": {"text": long}})).await;
    let ran = platform.run(&["exec", &id, "--", "echo", "still here"]).await;
    assert_eq!(ran.stdout, "still here\n", "{}", ran.stderr);
    let hibernate = Some(json!({"depth": "hibernate"}));
    platform.ok("POST", &format!("/v1/sessions/{id}/pause"), hibernate).await;
    let turn = platform.first_turn(&id).await;
    let ended = platform.ended(&id, &turn).await;
    assert!(matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Interrupted, .. }));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_run_fails_the_turn_and_says_why() {
    let platform = Platform::start_with(Agent::Script("#!/no/such/interpreter\n"), &[]).await;
    let id = platform.session(json!({})).await;
    let (outcome, failure) = prompt(&platform, &id).await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(failure.as_ref().unwrap().contains("could not be started"), "{failure:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_prompts_are_refused_with_what_to_do_and_the_rest_works() {
    let platform = Platform::start_with(Agent::Missing, &[]).await;
    let body = json!({"prompt": {"text": "hello"}});
    let (status, problem) = platform.call("POST", "/v1/sessions", Some(body)).await;
    assert_eq!((status, &problem["code"]), (503, &json!("agent_not_installed")));
    assert!(problem["detail"].as_str().unwrap().contains("rclaude init"), "{problem}");
    let id = platform.session(json!({})).await;
    let turns = format!("/v1/sessions/{id}/turns");
    assert_eq!(platform.call("POST", &turns, Some(json!({"text": "hello"}))).await.0, 503);
    let ran = platform.run(&["exec", &id, "--", "echo", "works"]).await;
    assert_eq!(ran.stdout, "works\n", "{}", ran.stderr);
    platform.end().await;
}
