//! What the agent asks, and every way to answer.

use rclaude_types::{ApprovalKind, ApprovalState, EventBody, PermissionMode, TurnOutcome};
use serde_json::{Value, json};

use crate::platform::{Platform, script};

fn bash(command: &str) -> Value {
    json!({ "tool": "Bash", "input": { "command": command } })
}

/// A session that asks before it runs these commands one after the other, and its turn.
async fn asking(platform: &Platform, steps: &Value) -> (String, String) {
    let request = json!({"permission_mode": "default", "prompt": {"text": script(steps)}});
    let id = platform.session(request).await;
    let turn = platform.first_turn(&id).await;
    (id, turn)
}

async fn completed(platform: &Platform, id: &str, turn: &str) {
    let ended = platform.ended(id, turn).await;
    let done = matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Completed, .. });
    assert!(done, "{ended:?}\n{}", platform.log());
}

async fn exec(platform: &Platform, id: &str, command: &str) -> String {
    platform.run(&["exec", id, "--", "bash", "-c", command]).await.stdout
}

/// The `n`th approval of a session, waited for.
async fn nth(platform: &Platform, id: &str, n: usize) -> rclaude_types::Approval {
    loop {
        let events = platform.events(id).await;
        let asked = events.into_iter().filter_map(|event| match event.body {
            EventBody::ApprovalRequested { approval } => Some(*approval),
            _ => None,
        });
        if let Some(found) = asked.into_iter().nth(n) {
            return found;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_done_and_an_answer_counts_once() {
    let platform = Platform::start().await;
    let (id, turn) = asking(&platform, &json!([[bash("touch made")], [{"text": "ok"}]])).await;
    let asked = platform.ask(&id).await;
    assert_eq!((asked.kind, asked.state), (ApprovalKind::Permission, ApprovalState::Pending));
    assert!(asked.title.contains("touch made"), "{asked:?}");
    assert_eq!(exec(&platform, &id, "ls").await, "");
    platform.allow(&id, asked.id.as_str()).await;
    // The same answer again is the same answer; another one is too late.
    platform.allow(&id, asked.id.as_str()).await;
    let (status, problem) =
        platform.decide(&id, asked.id.as_str(), json!({"decision": "deny"})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "made\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_is_not_done_and_the_agent_is_told_why() {
    let platform = Platform::start().await;
    let (id, turn) = asking(&platform, &json!([[bash("touch made")], [{"text": "ok"}]])).await;
    let asked = platform.asked(&id).await;
    let deny = json!({"decision": "deny", "message": "use another name, please"});
    assert_eq!(platform.decide(&id, &asked, deny).await.0, 200);
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "");
    let told =
        platform.emulator.requests().iter().any(|request| {
            String::from_utf8_lossy(&request.body).contains("use another name, please")
        });
    assert!(told);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_interrupts_ends_the_turn() {
    let platform = Platform::start().await;
    let (id, turn) = asking(&platform, &json!([[bash("touch made")], [{"text": "ok"}]])).await;
    let asked = platform.asked(&id).await;
    let deny = json!({"decision": "deny", "interrupt": true});
    assert_eq!(platform.decide(&id, &asked, deny).await.0, 200);
    let ended = platform.ended(&id, &turn).await;
    assert!(matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Interrupted, .. }));
    assert_eq!(exec(&platform, &id, "ls").await, "");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_with_another_input_is_done_with_that() {
    let platform = Platform::start().await;
    let (id, turn) = asking(&platform, &json!([[bash("touch made")], [{"text": "ok"}]])).await;
    let asked = platform.asked(&id).await;
    let allow = json!({"decision": "allow", "input": {"command": "touch better"}});
    assert_eq!(platform.decide(&id, &asked, allow).await.0, 200);
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "better\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_always_allowed_is_not_asked_again_even_after_a_stop() {
    let platform = Platform::start().await;
    let command = "touch made";
    let steps = json!([[bash(command)], [bash(command)], [{"text": "ok"}]]);
    let (id, turn) = asking(&platform, &steps).await;
    let asked = platform.ask(&id).await;
    assert!(asked.can_always);
    let always = json!({"decision": "allow", "always": true});
    assert_eq!(platform.decide(&id, asked.id.as_str(), always).await.0, 200);
    completed(&platform, &id, &turn).await;
    platform
        .ok("POST", &format!("/v1/sessions/{id}/pause"), Some(json!({"depth": "hibernate"})))
        .await;
    let again = script(&json!([[bash(command)], [{"text": "ok"}]]));
    let turn = platform.send(&id, &again).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "made\n");
    let asked = platform
        .events(&id)
        .await
        .into_iter()
        .filter(|event| matches!(event.body, EventBody::ApprovalRequested { .. }));
    assert_eq!(asked.count(), 1);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_its_text_and_by_nothing_else() {
    let platform = Platform::start().await;
    let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false,
        "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]});
    let ask = json!({"tool": "AskUserQuestion", "input": {"questions": [question]}});
    let (id, turn) = asking(&platform, &json!([[ask], [{"text": "ok"}]])).await;
    let asked = platform.ask(&id).await;
    assert_eq!(asked.kind, ApprovalKind::Question);
    assert_eq!(asked.questions[0].options[1].label, "Blue");
    let stray = json!({"decision": "allow", "answers": {"Which size?": "Big"}});
    for wrong in [json!({"decision": "allow"}), stray, json!({"decision": "allow", "always": true})]
    {
        let (status, problem) = platform.decide(&id, asked.id.as_str(), wrong).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{problem}");
    }
    let answer = json!({"decision": "allow", "answers": {"Which colour?": "Blue"}});
    assert_eq!(platform.decide(&id, asked.id.as_str(), answer).await.0, 200);
    completed(&platform, &id, &turn).await;
    let last = platform.emulator.requests().pop().unwrap();
    let told = String::from_utf8_lossy(&last.body).into_owned();
    assert!(told.contains("Which colour?") && told.contains("Blue"), "{told}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_shown_and_carried_out_once_it_is_allowed() {
    let platform = Platform::start().await;
    let plan = json!({"tool": "ExitPlanMode", "input": {"plan": "1. touch made"}});
    let steps = json!([[plan], [{"text": "on it"}]]);
    let request = json!({"permission_mode": "plan", "prompt": {"text": script(&steps)}});
    let id = platform.session(request).await;
    let turn = platform.first_turn(&id).await;
    let asked = platform.ask(&id).await;
    assert_eq!(asked.kind, ApprovalKind::Plan);
    assert_eq!(asked.input["plan"], "1. touch made", "{asked:?}");
    let answers = json!({"decision": "allow", "answers": {"x": "y"}});
    assert_eq!(platform.decide(&id, asked.id.as_str(), answers).await.0, 400);
    platform.allow(&id, asked.id.as_str()).await;
    completed(&platform, &id, &turn).await;
    platform
        .event(&id, |event| match event.body {
            EventBody::SettingsChanged { permission_mode: Some(mode), .. } => {
                (mode != PermissionMode::Plan).then_some(())
            }
            _ => None,
        })
        .await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_questions_of_one_answer_are_each_asked_and_answered_apart() {
    let platform = Platform::start().await;
    let steps = json!([[bash("touch one")], [bash("touch two")], [{"text": "ok"}]]);
    let (id, turn) = asking(&platform, &steps).await;
    let first = nth(&platform, &id, 0).await;
    platform.allow(&id, first.id.as_str()).await;
    let second = nth(&platform, &id, 1).await;
    assert_eq!(platform.decide(&id, second.id.as_str(), json!({"decision": "deny"})).await.0, 200);
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "one\n");
    let strange = format!("apr_{}", "0".repeat(32));
    let (status, problem) = platform.decide(&id, &strange, json!({"decision": "allow"})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("approval_not_found")));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_mode_changed_while_the_agent_works_counts_from_then_on() {
    let platform = Platform::start().await;
    let steps = json!([[bash("touch one")], [bash("touch two")], [{"text": "ok"}]]);
    let (id, turn) = asking(&platform, &steps).await;
    let first = nth(&platform, &id, 0).await;
    let path = format!("/v1/sessions/{id}");
    platform.ok("PATCH", &path, Some(json!({"permission_mode": "bypassPermissions"}))).await;
    platform
        .event(&id, |event| match event.body {
            EventBody::SettingsChanged { permission_mode: Some(_), .. } => Some(()),
            _ => None,
        })
        .await;
    platform.allow(&id, first.id.as_str()).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "ls").await, "one\ntwo\n");
    platform.ok("PATCH", &path, Some(json!({"permission_mode": "default"}))).await;
    let third = script(&json!([[bash("touch three")], [{"text": "ok"}]]));
    let turn = platform.send(&id, &third).await;
    let asked = nth(&platform, &id, 1).await;
    platform.allow(&id, asked.id.as_str()).await;
    completed(&platform, &id, &turn).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_changed_between_turns_is_the_one_asked_and_outlives_a_stop() {
    let platform = Platform::start().await;
    let models = |platform: &Platform| -> Vec<String> {
        let requests = platform.emulator.requests();
        let bodies = requests.iter().filter_map(|r| serde_json::from_slice::<Value>(&r.body).ok());
        bodies.filter_map(|body| body["model"].as_str().map(str::to_owned)).collect()
    };
    let (id, _) = platform.prompt(&script(&json!([[{"text": "one"}]]))).await;
    let path = format!("/v1/sessions/{id}");
    let change = json!({"model": "claude-sonnet-5-5"});
    assert_eq!(platform.ok("PATCH", &path, Some(change)).await["model"], "claude-sonnet-5-5");
    let turn = platform.send(&id, &script(&json!([[{"text": "two"}]]))).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(models(&platform).last().unwrap(), "claude-sonnet-5-5");
    platform.ok("POST", &format!("{path}/pause"), Some(json!({"depth": "hibernate"}))).await;
    let turn = platform.send(&id, &script(&json!([[{"text": "three"}]]))).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(models(&platform).last().unwrap(), "claude-sonnet-5-5");
    platform.end().await;
}
