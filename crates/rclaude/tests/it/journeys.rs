//! The main job, end to end, with the real agent.

use rclaude_types::{EventBody, Phase, SessionStatus, TurnOutcome};
use serde_json::json;

use crate::platform::{Platform, git, repository, script};

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_goes_in_and_the_fix_the_diff_and_the_cost_come_out() {
    let platform = Platform::start().await;
    let demo = platform.scratch().join("demo");
    let made = platform.run(&["emulator", "--write-demo", demo.to_str().unwrap()]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let ran = platform
        .run(&[
            "run",
            "--name",
            "fix",
            "--repo",
            demo.to_str().unwrap(),
            "--permission-mode",
            "bypassPermissions",
            "fix the failing test",
        ])
        .await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, platform.log());
    assert!(ran.stdout.contains("All tests pass now."), "{}", ran.stdout);

    let patch = platform.run(&["diff", "fix"]).await;
    std::fs::write(platform.scratch().join("patch"), patch.stdout).unwrap();
    git(&demo, &["apply", "../patch"]);
    let tests = platform.run(&["exec", "fix", "--", "python3", "-m", "unittest"]).await;
    assert_eq!(tests.code, Some(0), "{}", tests.stderr);

    let session = platform.get("fix").await;
    assert_eq!(session.status, SessionStatus::Idle);
    assert!(session.cost.0 > 0);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_key_is_nowhere_in_the_sandbox_and_reaches_the_model_alone() {
    let platform = Platform::start().await;
    let find = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'";
    let (id, _) = platform
        .prompt(&script(&json!([[{"tool": "Bash", "input": {"command": find}}], [{"text": "ok"}]])))
        .await;
    let log = serde_json::to_string(&platform.events(&id).await).unwrap();
    assert!(log.contains("ANTHROPIC_AUTH_TOKEN"), "the agent's environment was looked at");
    assert!(!log.contains("sk-real-key-of-the-server"));
    let asked = platform.emulator.requests();
    assert!(asked.iter().all(|request| {
        request.headers.get("x-api-key").is_some_and(|key| key == "sk-real-key-of-the-server")
    }));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_worked_on_in_the_order_they_came() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    let mut turns = Vec::new();
    for number in 1..=3 {
        let say = script(&json!([[{"text": format!("answer {number}")}]]));
        turns.push(platform.send(&id, &say).await);
    }
    for turn in &turns {
        let ended = platform.ended(&id, turn).await;
        assert!(matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Completed, .. }));
    }
    let said: Vec<_> = platform
        .events(&id)
        .await
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::Message { text, role: rclaude_types::Role::Assistant, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(said, ["answer 1", "answer 2", "answer 3"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_session_keeps_its_files_and_conversation_and_wakes_on_the_next_prompt() {
    let platform = Platform::start().await;
    let repo = repository(&platform.scratch().join("repo"), &[("a.txt", "a\n")]);
    let write = script(&json!([
        [{"tool": "Bash", "input": {"command": "echo kept > b.txt; git add b.txt"}}],
        [{"text": "written"}]
    ]));
    let id =
        platform.session(json!({"repository": {"url": repo}, "prompt": {"text": write}})).await;
    let turn = platform.first_turn(&id).await;
    platform.ended(&id, &turn).await;
    assert_eq!(platform.run(&["stop", &id]).await.code, Some(0));
    let paused = |event: &rclaude_types::Event| match event.body {
        EventBody::StatusChanged { status: SessionStatus::Hibernated, .. } => Some(()),
        _ => None,
    };
    platform.event(&id, paused).await;
    while platform.get(&id).await.phase != Phase::Hibernated {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(platform.processes_of(&id, "").await, [0_u32; 0]);
    let again = platform.send(&id, &script(&json!([[{"text": "still here"}]]))).await;
    platform.ended(&id, &again).await;
    let cat = platform.run(&["exec", &id, "--", "cat", "b.txt"]).await;
    assert_eq!(cat.stdout, "kept\n", "{}", cat.stderr);
    let resumed = platform
        .event(&id, |event| match event.body {
            EventBody::AgentStarted { resumed: true, .. } => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(resumed, ());
    platform.end().await;
}
