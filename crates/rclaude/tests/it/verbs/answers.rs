//! What the agent asks, and turns that are watched, told something, stopped.

use rclaude_types::{Approval, ApprovalState, Event, EventBody, Session, Turn};
use serde_json::json;

use super::{command, lines, one};
use crate::{
    platform::{Platform, script},
    support::Ran,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_asks_is_answered_from_another_terminal() {
    let platform = Platform::start().await;
    let ask = |file: &str| command(&format!("touch /workspace/{file} && echo did {file}"), "Over.");
    let asked = |number: usize| {
        let platform = &platform;
        async move {
            loop {
                let session: Session = one(&platform.done(&["show", "asks", "--json"]).await);
                if session.pending_approvals.len() == number {
                    return session.pending_approvals;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    };
    let waits = platform.done(&["run", "--detach", "--name", "asks", &ask("one")]).await;
    assert_eq!(waits.stdout, "asks\n");
    let pending = asked(1).await;
    let shown = platform.done(&["show", "asks"]).await.stdout;
    let id = pending[0].id.to_string();
    for said in
        ["awaiting input", "waits for", &format!("rclaude approve asks {id}"), "rclaude deny"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(platform.done(&["approve", "asks"]).await.stderr.contains("allowed: "));
    // The same answer again is as good as the first; another comes too late.
    platform.done(&["approve", "asks", &id]).await;
    let late = platform.run(&["deny", "asks", &id]).await;
    assert_eq!(late.code, Some(6), "{late:?}");
    platform.ended("asks", &platform.first_turn("asks").await).await;
    let nothing = platform.run(&["deny", "asks"]).await;
    assert_eq!(nothing.code, Some(4), "{nothing:?}");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("two")]).await);
    asked(1).await;
    let message = "leave that file alone";
    let denied = ["deny", "asks", "--message", message, "--json"];
    let denied: Approval = one(&platform.done(&denied).await);
    assert_eq!(denied.state, ApprovalState::Denied);
    platform.ended("asks", turn.id.as_str()).await;
    let log = platform.done(&["logs", "asks"]).await;
    assert!(log.stderr.contains(message), "{log:?}");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("three")]).await);
    let id = asked(1).await[0].id.to_string();
    let allowed = ["approve", "asks", &id, "--always", "--json"];
    let allowed: Approval = one(&platform.done(&allowed).await);
    assert_eq!(allowed.state, ApprovalState::Allowed);
    platform.ended("asks", turn.id.as_str()).await;
    let files = platform.done(&["exec", "asks", "--", "ls", "/workspace"]).await.stdout;
    assert_eq!(files, "one\nthree\n");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("four")]).await);
    // "Always" may have covered this one; where it asks, a no can end the turn as well.
    let ended = loop {
        let session = platform.get("asks").await;
        if !session.pending_approvals.is_empty() {
            platform.done(&["deny", "asks", "--interrupt"]).await;
            break platform.ended("asks", turn.id.as_str()).await;
        }
        if platform.turn("asks", turn.id.as_str()).await.outcome.is_some() {
            break platform.ended("asks", turn.id.as_str()).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(matches!(ended, EventBody::TurnEnded { .. }));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_and_an_input_changed_by_command() {
    let platform = Platform::start().await;
    let option = |label: &str| json!({"label": label, "description": ""});
    let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false,
        "options": [option("red"), option("blue")]});
    let prompt = script(&json!([
        [{"tool": "AskUserQuestion", "input": {"questions": [question]}}],
        [{"tool": "Bash", "input": {"command": "touch one"}}],
        [{"text": "Thanks."}]
    ]));
    platform.done(&["run", "-d", "--name", "asks", &prompt]).await;
    let asked = |tool: &'static str| {
        move |event: &Event| match &event.body {
            EventBody::ApprovalRequested { approval } => (approval.tool == tool).then_some(()),
            _ => None,
        }
    };
    platform.event("asks", asked("AskUserQuestion")).await;
    let shown = platform.done(&["show", "asks"]).await.stdout;
    assert!(shown.contains("--answer 'Which colour?=red'"), "{shown}");
    let silent =
        platform.run(&["approve", "asks", "--answer", "Which?=red", "--input", "{}"]).await;
    assert_eq!(silent.code, Some(2), "one or the other: {silent:?}");
    let answered: Approval =
        one(&platform.done(&["approve", "asks", "--answer", "blue", "--json"]).await);
    assert_eq!(answered.state, ApprovalState::Allowed);
    platform.event("asks", asked("Bash")).await;
    platform.done(&["approve", "asks", "--input", r#"{"command":"touch other"}"#]).await;
    platform.ended("asks", &platform.first_turn("asks").await).await;
    let log = platform.done(&["logs", "asks"]).await;
    assert!(log.stderr.contains(r#""Which colour?"="blue""#), "{log:?}");
    assert_eq!(platform.done(&["exec", "asks", "--", "ls"]).await.stdout, "other\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_under_way_can_be_told_something() {
    let platform = Platform::start().await;
    // Until it is told to go on, so that there is a turn to say something to.
    let wait = "until test -e go; do timeout 0.05 tail -f /dev/null; done";
    platform.done(&["run", "-d", "--yolo", "--name", "busy", &command(wait, "Over.")]).await;
    let began = |event: &Event| matches!(event.body, EventBody::ToolCall { .. }).then_some(());
    platform.event("busy", began).await;
    let mut send = platform.cli(&["send", "busy", "--steer", "mind the gap"]);
    let steering = tokio::task::spawn_blocking(move || Ran::from(send.output().unwrap()));
    let told = |event: &Event| {
        matches!(event.body, EventBody::TurnQueued { steer: true, .. }).then_some(())
    };
    platform.event("busy", told).await;
    platform.done(&["exec", "busy", "--", "touch", "go"]).await;
    let steered = steering.await.unwrap();
    assert_eq!(steered.code, Some(0), "{steered:?}");
    assert!(steered.stderr.contains("said to turn 1, which is under way"), "{steered:?}");
    assert!(platform.done(&["logs", "busy"]).await.stderr.contains("» mind the gap"));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_watched_from_elsewhere_and_stopped() {
    let platform = Platform::start().await;
    let hang = script(&json!([[{"text": "Thinking about it."}], [{"hang": true}]]));
    let hang = hang.replace(
        r#"[{"text":"Thinking about it."}]"#,
        r#"[{"text":"Thinking about it."},{"tool":"Bash","input":{"command":"true"}}]"#,
    );
    let run = platform.cli(&["run", "--yolo", "--name", "long", &hang]);
    let following = tokio::task::spawn_blocking({
        let mut run = run;
        move || Ran::from(run.output().unwrap())
    });
    platform
        .until("the session is made", || {
            let ran = Ran::from(platform.cli(&["show", "long", "--json"]).output().unwrap());
            (ran.code == Some(0)).then_some(())
        })
        .await;
    let follow = |arguments: &[&str]| {
        let mut command = platform.cli(arguments);
        tokio::task::spawn_blocking(move || Ran::from(command.output().unwrap()))
    };
    let logs = follow(&["logs", "long", "--follow"]);
    let raw = follow(&["logs", "long", "--follow", "--json"]);
    let attached = follow(&["attach", "long", "--all"]);
    platform
        .event("long", |event| matches!(event.body, EventBody::ToolResult { .. }).then_some(()))
        .await;
    assert!(platform.done(&["interrupt", "long"]).await.stderr.contains("interrupted long"));
    let ran = following.await.unwrap();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("■ turn interrupted"), "{ran:?}");
    // The log ends with its session, and so do those who follow it.
    platform.done(&["rm", "-f", "long"]).await;
    let logs = logs.await.unwrap();
    assert_eq!((logs.code, &*logs.stdout), (Some(0), "Thinking about it.\n"), "{logs:?}");
    let raw = lines::<Event>(&raw.await.unwrap());
    assert!(raw.iter().map(|event| event.seq).eq(1..=i64::try_from(raw.len()).unwrap()));
    assert!(raw.iter().any(|event| matches!(event.body, EventBody::TurnEnded { .. })));
    let attached = attached.await.unwrap();
    assert_eq!(attached.code, Some(1), "{attached:?}");
    assert!(attached.stderr.contains("long was deleted"), "{attached:?}");
    platform.end().await;
}
