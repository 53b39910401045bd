//! The model's API fails in every way it can, through the gateway and the real agent; and what a
//! turn is said to have cost is what was metered.

use rclaude_types::{EventBody, TurnOutcome, UsageSummary};
use serde_json::{Value, json};

use crate::platform::{Platform, script};

/// A session whose agent tries a failing API once more and no oftener.
async fn impatient(platform: &Platform) -> String {
    platform.session(json!({"env": {"CLAUDE_CODE_MAX_RETRIES": "1"}})).await
}

/// Sends a prompt with this script; how its turn ended, and why if it failed.
async fn run(platform: &Platform, id: &str, steps: Value) -> (TurnOutcome, String) {
    let turn = platform.send(id, &script(&steps)).await;
    let EventBody::TurnEnded { outcome, failure, .. } = platform.ended(id, &turn).await else {
        unreachable!()
    };
    (outcome, failure.unwrap_or_default())
}

async fn works(platform: &Platform, id: &str) {
    let (outcome, failure) = run(platform, id, json!([[{"text": "still here"}]])).await;
    assert_eq!(outcome, TurnOutcome::Completed, "{failure}");
}

async fn usage(platform: &Platform, id: &str) -> UsageSummary {
    let usage = platform.ok("GET", &format!("/v1/sessions/{id}/usage"), None).await;
    serde_json::from_value(usage).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_the_api_fails_the_turn_with_a_sentence_of_its_own_and_the_next_works() {
    let platform = Platform::start().await;
    let id = impatient(&platform).await;
    for (status, says) in [
        (400, "refused the request as invalid"),
        (401, "operator has to replace the key"),
        (402, "The budget is spent"),
        (403, "does not allow this"),
        (404, "does not know this model"),
        (413, "too large"),
        (429, "limiting the rate"),
        (500, "The model's API failed"),
        (529, "overloaded"),
    ] {
        let error = json!({"error": status, "message": format!("because of {status}")});
        let (outcome, failure) = run(&platform, &id, json!([[error]])).await;
        assert_eq!(outcome, TurnOutcome::Failed, "{status}");
        assert!(failure.contains(says), "{status}: {failure}");
    }
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_failure_of_the_api_is_ridden_out() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    let text = json!({"text": "through"});
    for fault in [
        json!({"error": 529, "times": 2}),
        json!({"error": 500, "times": 1}),
        json!({"error": 429, "headers": {"retry-after": "0"}, "times": 1}),
        json!({"drop": true, "times": 1}),
    ] {
        let (outcome, failure) = run(&platform, &id, json!([[fault, text]])).await;
        assert_eq!((outcome, &*failure), (TurnOutcome::Completed, ""), "{fault}");
    }
    for fault in
        [json!({"cut": true, "times": 1}), json!({"sse_error": "overloaded_error", "times": 1})]
    {
        let steps = json!([[{"text": "half a "}, fault], [text], [text]]);
        let (outcome, failure) = run(&platform, &id, steps).await;
        assert_eq!((outcome, &*failure), (TurnOutcome::Completed, ""), "{fault}");
    }
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_cannot_be_reached_fails_the_turn_and_says_so() {
    let platform = Platform::start().await;
    let id = impatient(&platform).await;
    let (outcome, failure) = run(&platform, &id, json!([[{"drop": true}]])).await;
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(failure.contains("model's API"), "{failure}");
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_never_answers_is_waited_for_until_its_user_interrupts() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    let silent = json!([[{"hang": true}]]);
    let stuck = json!([[{"text": "half a sentence"}, {"hang": true}]]);
    for steps in [silent, stuck] {
        let asked = platform.emulator.requests().len();
        let turn = platform.send(&id, &script(&steps)).await;
        let more = || (platform.emulator.requests().len() > asked).then_some(());
        platform.until("the model is asked", more).await;
        platform.ok("POST", &format!("/v1/sessions/{id}/interrupt"), None).await;
        let ended = platform.ended(&id, &turn).await;
        let stopped =
            matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Interrupted, .. });
        assert!(stopped, "{ended:?}");
    }
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_costs_what_its_requests_were_metered_at() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    let bash = json!({"tool": "Bash", "input": {"command": "true"}});
    let used = json!({"usage": {"output_tokens": 1000, "cache_read_input_tokens": 5000}});
    let steps = json!([[bash, used], [bash], [{"text": "done"}, used]]);
    let (mut tokens, mut cost) = (rclaude_types::TokenUsage::default(), 0);
    for _ in 0..2 {
        let turn = platform.send(&id, &script(&steps)).await;
        let ended = platform.ended(&id, &turn).await;
        let EventBody::TurnEnded { tokens: of_turn, cost: turns_cost, .. } = ended else {
            unreachable!()
        };
        assert!(of_turn.output > 2000 && turns_cost.0 > 0);
        (tokens, cost) = (tokens + of_turn, cost + turns_cost.0);
    }
    let usage = usage(&platform, &id).await;
    assert_eq!((usage.tokens, usage.cost.0), (tokens, cost));
    assert_eq!(usage.requests, i64::try_from(platform.emulator.requests().len()).unwrap());
    assert_eq!(platform.get(&id).await.cost.0, cost);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_broken_off_is_accounted_too() {
    let platform = Platform::start().await;
    let text = "word ".repeat(40);
    let slow = script(&json!([[{"slow": [40, 0.2]}, {"text": text}]]));
    let id = platform.session(json!({"prompt": {"text": slow}})).await;
    let part = |event: &rclaude_types::Event| {
        matches!(event.body, EventBody::MessageDelta { .. }).then_some(())
    };
    platform.event(&id, part).await;
    platform.ok("POST", &format!("/v1/sessions/{id}/interrupt"), None).await;
    let turn = platform.first_turn(&id).await;
    let EventBody::TurnEnded { outcome, tokens, cost, .. } = platform.ended(&id, &turn).await
    else {
        unreachable!()
    };
    assert_eq!(outcome, TurnOutcome::Interrupted);
    let usage = usage(&platform, &id).await;
    assert_eq!((usage.requests, usage.tokens, usage.cost), (1, tokens, cost));
    assert!(cost.0 > 0 && tokens.output > 0, "{tokens:?}");
    platform.end().await;
}
