//! Limits hold, and what they did is reported.

use std::time::{Duration, Instant};

use rclaude_sandbox::provider::{SandboxProvider as _, SandboxSpec};
use rclaude_types::Resources;

use crate::rig::{Rig, spec};

#[tokio::test]
async fn a_greedy_process_is_killed_and_the_kill_is_counted() {
    let rig = Rig::new().await;
    let resources = Resources { cpu_millis: 1000, memory_mib: 64, pids: 50 };
    let sandbox = rig.provider.create(&SandboxSpec { resources, ..spec() }).await.unwrap();
    let outcome = rig.sh(&sandbox, "head -c 300m /dev/zero | tail > /dev/null; echo $?").await;
    assert!(outcome.out.contains("137"), "{outcome:?}");
    let stats = rig.provider.stats(&sandbox).await.unwrap();
    assert!(stats.oom_kills >= 1, "{stats:?}");
    assert!(stats.memory_peak_bytes >= 60 << 20, "{stats:?}");
    assert_eq!(rig.sh(&sandbox, "echo alive").await.out, "alive");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn a_fork_bomb_runs_into_its_limit_and_can_be_destroyed() {
    let rig = Rig::new().await;
    let resources = Resources { cpu_millis: 1000, memory_mib: 256, pids: 60 };
    let sandbox = rig.provider.create(&SandboxSpec { resources, ..spec() }).await.unwrap();
    rig.sh(&sandbox, "for i in $(seq 100); do sleep 1000 >/dev/null 2>&1 & done").await;
    let stats = rig.provider.stats(&sandbox).await.unwrap();
    assert!(stats.pids_refused >= 1 && stats.pids <= 60, "{stats:?}");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn processor_time_is_limited() {
    let rig = Rig::new().await;
    let resources = Resources { cpu_millis: 100, memory_mib: 256, pids: 60 };
    let sandbox = rig.provider.create(&SandboxSpec { resources, ..spec() }).await.unwrap();
    let before = rig.provider.stats(&sandbox).await.unwrap().cpu_micros;
    let begun = Instant::now();
    rig.sh(&sandbox, "timeout 2 sh -c 'while :; do :; done'").await;
    let used = rig.provider.stats(&sandbox).await.unwrap().cpu_micros - before;
    // A tenth is allowed; a third is far from the whole that an unlimited loop would take.
    let most = begun.elapsed().max(Duration::from_secs(1)).as_micros() / 3;
    assert!(u128::from(used) < most, "{used} of {most}");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}
