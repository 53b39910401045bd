//! The agent, the daemon in its sandbox, the supervisor and the whole host are killed.

use rclaude_types::{EventBody, SessionStatus};
use serde_json::json;

use super::{began, completed, exec, go, patient, slow, streaming, works};
use crate::platform::{Platform, script};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_speaks_takes_its_turn_up_again_by_itself() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": slow()}})).await;
    streaming(&platform, &id).await;
    platform.kill_in(&id, "claude").await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    let killed = platform
        .events(&id)
        .await
        .into_iter()
        .filter(|event| matches!(event.body, EventBody::AgentExited { signal: Some(9), .. }));
    assert_eq!(killed.count(), 1);
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_its_command_runs_takes_its_turn_up_again_by_itself() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    platform.kill_in(&id, "claude").await;
    go(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_between_turns_is_there_for_the_next_with_its_memory() {
    let platform = Platform::start().await;
    let (id, _) = platform.prompt(&script(&json!([[{"text": "first"}]]))).await;
    platform.kill_in(&id, "claude").await;
    works(&platform, &id).await;
    let resumed = |event: &rclaude_types::Event| {
        matches!(event.body, EventBody::AgentStarted { resumed: true, .. }).then_some(())
    };
    platform.event(&id, resumed).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_under_a_turn_comes_back_on_its_disk_and_the_turn_goes_on() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    exec(&platform, &id, "echo kept > kept; sync").await;
    platform.kill_in(&id, "agentd").await;
    go(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    assert_eq!(exec(&platform, &id, "cat kept").await, "kept\n");
    works(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_of_the_host_every_session_returns_and_goes_on() {
    let mut platform = Platform::start().await;
    let (idle, _) = platform.prompt(&script(&json!([[{"text": "first"}]]))).await;
    let busy = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &busy).await;
    exec(&platform, &idle, "echo kept > kept; sync").await;
    let before = (platform.events(&idle).await, platform.events(&busy).await);
    platform.reboot(&[&idle, &busy]).await;
    go(&platform, &busy).await;
    let turn = platform.first_turn(&busy).await;
    completed(&platform, &busy, &turn).await;
    assert_eq!(exec(&platform, &idle, "cat kept").await, "kept\n");
    let after = (platform.events(&idle).await, platform.events(&busy).await);
    assert_eq!(before.0, after.0[..before.0.len()]);
    assert_eq!(before.1, after.1[..before.1.len()]);
    works(&platform, &idle).await;
    works(&platform, &busy).await;
    assert_eq!(platform.get(&idle).await.status, SessionStatus::Idle);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_under_a_turn_is_not_missed() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": patient()}})).await;
    began(&platform, &id).await;
    platform.end_supervisor();
    go(&platform, &id).await;
    let turn = platform.first_turn(&id).await;
    completed(&platform, &id, &turn).await;
    let (other, _) = platform.prompt(&script(&json!([[{"text": "another"}]]))).await;
    assert_eq!(platform.get(&other).await.status, SessionStatus::Idle);
    platform
        .ok("POST", &format!("/v1/sessions/{id}/pause"), Some(json!({"depth": "hibernate"})))
        .await;
    works(&platform, &id).await;
    platform.end().await;
}
