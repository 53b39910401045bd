//! Everything may die at any moment, and work goes on: the server, the agent, the daemon in the
//! sandbox, the supervisor, the whole host, and the clients.

mod clients;
mod deaths;
mod interrupts;
mod server;
mod turns;

use rclaude_types::{Event, EventBody, TurnOutcome};
use serde_json::{Value, json};

use crate::platform::{Platform, script};

/// A Bash tool use.
fn bash(command: &str) -> Value {
    json!({ "tool": "Bash", "input": { "command": command } })
}

/// A command that notes that it began, waits for the file `go`, and notes that it is through.
const PATIENT: &str =
    "echo began >> log; while [ ! -e go ]; do sleep 0.05; done; echo through >> log";

/// A prompt that runs [`PATIENT`] and then says `done`.
fn patient() -> String {
    script(&json!([[bash(PATIENT)], [{ "text": "done" }]]))
}

/// A prompt that is answered in many small parts, over about two seconds.
fn slow() -> String {
    let text = "word ".repeat(40);
    script(&json!([[{ "slow": [20, 0.1] }, { "text": text }]]))
}

/// What a command prints that is run in the session from outside.
async fn exec(platform: &Platform, id: &str, command: &str) -> String {
    let ran = platform.run(&["exec", id, "--", "bash", "-c", command]).await;
    assert_eq!(ran.code, Some(0), "{command}: {}\n{}", ran.stderr, platform.log());
    ran.stdout
}

/// Waits until the agent's command has begun.
async fn began(platform: &Platform, id: &str) {
    exec(platform, id, "until [ -e log ]; do sleep 0.02; done").await;
}

/// Lets the agent's command end.
async fn go(platform: &Platform, id: &str) {
    exec(platform, id, "touch go").await;
}

/// Waits for the first part of an answer.
async fn streaming(platform: &Platform, id: &str) {
    let part = |event: &Event| matches!(event.body, EventBody::MessageDelta { .. }).then_some(());
    platform.event(id, part).await;
}

/// How a turn ended, in one word, and that it did so once.
async fn outcome(platform: &Platform, id: &str, turn: &str) -> TurnOutcome {
    let ended = platform.ended(id, turn).await;
    let events = platform.events(id).await;
    let ends = events.iter().filter(|event| {
        matches!(event.body, EventBody::TurnEnded { .. })
            && event.turn.as_ref().is_some_and(|of| of.as_str() == turn)
    });
    assert_eq!(ends.count(), 1, "{events:#?}");
    let EventBody::TurnEnded { outcome, failure, .. } = ended else { unreachable!() };
    assert_eq!(failure.is_some(), outcome == TurnOutcome::Failed, "{failure:?}");
    outcome
}

/// Asserts that the turn was carried through.
async fn completed(platform: &Platform, id: &str, turn: &str) {
    let outcome = outcome(platform, id, turn).await;
    let events = platform.events(id).await;
    assert_eq!(outcome, TurnOutcome::Completed, "{events:#?}\n{}", platform.log());
}

/// Asserts that the session still works: the next prompt is answered.
async fn works(platform: &Platform, id: &str) {
    let turn = platform.send(id, &script(&json!([[{ "text": "still here" }]]))).await;
    completed(platform, id, &turn).await;
    assert!(said(&platform.events(id).await).contains(&"still here".to_owned()));
}

/// What the agent said, in order.
fn said(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Message { text, role: rclaude_types::Role::Assistant, .. } => {
                Some(text.clone())
            }
            _ => None,
        })
        .collect()
}
