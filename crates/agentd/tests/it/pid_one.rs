//! What only PID 1 does, in a process namespace of its own.

use rclaude_types::{ExecId, agentd::ProcessState};

use crate::harness::{Daemon, command, run, sh};

const NAMESPACE: [&str; 7] =
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn pid_one() -> Daemon {
    Daemon::start_in_namespace(tempfile::tempdir().unwrap(), &NAMESPACE)
}

#[tokio::test]
async fn orphans_are_reaped() {
    let daemon = pid_one();
    let client = daemon.client().await;
    assert_eq!(run(&client, &sh("echo $PPID")).await.stdout, b"1\n");
    let orphan = "setsid sh -c '(sleep 0.05; exit 3) & exit 0' > /dev/null 2>&1 &";
    run(&client, &sh(&orphan.repeat(20))).await;
    for _ in 0..500 {
        let script = "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; ls -d /proc/[0-9]*";
        let printed = String::from_utf8(run(&client, &sh(script)).await.stdout).unwrap();
        let zombies = printed.lines().next().unwrap();
        // The daemon, the shell, and what lists.
        if zombies == "0" && printed.lines().count() <= 4 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("zombies stay");
}

#[tokio::test]
async fn a_shutdown_leaves_nobody_behind() {
    let mut daemon = pid_one();
    let client = daemon.client().await;
    let id = ExecId::generate();
    let stubborn = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000";
    let info = client.start(&id, &sh(stubborn)).await.unwrap();
    assert!(matches!(info.state, ProcessState::Running { .. }));
    client.shutdown().await.unwrap();
    assert!(daemon.ended().await.success());
}

#[tokio::test]
async fn a_request_to_end_from_inside_is_not_the_agents_to_make() {
    let daemon = pid_one();
    let client = daemon.client().await;
    // KILL to PID 1 from its own namespace is void, and its memory is closed to all.
    run(&client, &sh("kill -KILL 1")).await;
    let printed = run(&client, &command(&["cat", "/proc/1/environ"])).await;
    assert_eq!(printed.stdout, b"");
    assert!(client.health().await.is_ok());
}
