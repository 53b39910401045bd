//! Killed at any point, everything is found again.

use std::{fs, path::Path, time::Duration};

use rclaude_sandbox::provider::{Observed, Outbound as _, Pausing as _, SandboxProvider as _};

use crate::rig::{Rig, kill, spec, supervisor_of};

#[tokio::test]
async fn a_killed_daemon_means_stopped_and_resuming_keeps_files() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "echo kept > file").await;
    kill(rig.first_process(&sandbox)).await;
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Stopped);
    rig.provider.resume(&sandbox).await.unwrap();
    assert_eq!(rig.sh(&sandbox, "cat file").await.out, "kept");
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn sandboxes_outlive_their_supervisor_and_the_next_one_finds_them() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    kill(supervisor_of(&rig.path())).await;
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Running);
    assert_eq!(rig.sh(&sandbox, "echo alive").await.out, "alive");

    let later = rig.reopened().await;
    assert_eq!(later.list().await.unwrap().len(), 1);
    let sockets = later.sockets(&sandbox).await.unwrap();
    let dialled = rig.begin(
        &sandbox,
        1000,
        &["bash", "-c", "exec 3<>/dev/tcp/203.0.113.7/4444; head -c 2 <&3"],
    );
    let (mut connection, _) = sockets.tcp[0].accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection, b"hi").await.unwrap();
    assert_eq!(dialled.await.unwrap().out, "hi");

    later.destroy(&sandbox).await.unwrap();
    assert_eq!(later.inspect(&sandbox).await.unwrap(), Observed::Absent);
    rig.finish().await;
}

#[tokio::test]
async fn a_sandbox_whose_start_was_cut_short_with_the_supervisor_is_started_anew() {
    let rig = Rig::new().await;
    let spec = spec();
    let sandbox = rig.provider.create(&spec).await.unwrap();
    // As it is written down between the network's making and the end of the start.
    let state = rig.path().join("sandboxes").join(&sandbox.0).join("state.json");
    let text = fs::read_to_string(&state).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["whole"], true);
    value["whole"] = false.into();
    value["redirect"] = false.into();
    fs::write(&state, value.to_string()).unwrap();
    let cut_short = rig.first_process(&sandbox);
    kill(supervisor_of(&rig.path())).await;

    let again = rig.provider.create(&spec).await.unwrap();
    assert_eq!(again, sandbox);
    assert_ne!(rig.first_process(&again), cut_short);
    let sockets = rig.provider.sockets(&again).await.unwrap();
    let dialled = rig.begin(
        &again,
        1000,
        &["bash", "-c", "exec 3<>/dev/tcp/203.0.113.7/4444; head -c 2 <&3"],
    );
    let (mut connection, _) = sockets.tcp[0].accept().await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut connection, b"hi").await.unwrap();
    assert_eq!(dialled.await.unwrap().out, "hi");
    rig.provider.destroy(&again).await.unwrap();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_process_killed_while_it_starts_is_started_again() {
    let rig = Rig::new().await;
    // So that there is a supervisor.
    let first = rig.sandbox().await;
    let supervisor = supervisor_of(&rig.path());
    let spared = rig.first_process(&first);
    let (stop, stopped) = std::sync::mpsc::channel();
    let killer = std::thread::spawn(move || {
        let children = format!("/proc/{supervisor}/task/{supervisor}/children");
        let mut killed = 0;
        while killed < 20 && stopped.try_recv().is_err() {
            for child in fs::read_to_string(&children).unwrap().split_whitespace() {
                let child = child.parse().unwrap();
                if child != spared {
                    let pid = rustix::process::Pid::from_raw(child).unwrap();
                    let signal = rustix::process::Signal::KILL;
                    killed += i32::from(rustix::process::kill_process(pid, signal).is_ok());
                    // At another moment of the next one's start.
                    std::thread::sleep(std::time::Duration::from_micros(u64::from(
                        killed.unsigned_abs() * 300,
                    )));
                }
            }
        }
        killed
    });
    let mut made = vec![first];
    while !killer.is_finished() {
        made.push(rig.provider.create(&spec()).await.unwrap());
    }
    let _over = stop.send(());
    assert_eq!(killer.join().unwrap(), 20);
    for sandbox in made {
        rig.provider.destroy(&sandbox).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_half_made_sandbox_is_listed_and_can_be_completed_or_removed() {
    let rig = Rig::new().await;
    let (first, second) = (spec(), spec());
    for spec in [&first, &second] {
        let dir = rig.path().join("sandboxes").join(spec.id.as_str());
        fs::create_dir_all(dir.join("upper/left-over")).unwrap();
    }
    assert_eq!(rig.provider.list().await.unwrap().len(), 2);
    let unfinished = rig.provider.find(&second.id).await.unwrap().unwrap();
    assert_eq!(rig.provider.inspect(&unfinished).await.unwrap(), Observed::Stopped);
    assert!(rig.provider.resume(&unfinished).await.is_err());
    rig.provider.destroy(&unfinished).await.unwrap();
    let sandbox = rig.provider.create(&first).await.unwrap();
    assert_eq!(
        rig.sh(&sandbox, "ls -d /left-over 2>/dev/null || echo none").await.out.lines().last(),
        Some("none")
    );
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn a_recycled_process_id_is_not_taken_for_the_sandbox() {
    let rig = Rig::new().await;
    let sandbox = rig.sandbox().await;
    let state = rig.path().join("sandboxes").join(&sandbox.0).join("state.json");
    rig.provider.stop(&sandbox).await.unwrap();
    let text = fs::read_to_string(&state).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["process"]["pid"] = std::process::id().into();
    fs::write(&state, value.to_string()).unwrap();
    rig.provider.release_supervisor().await.unwrap();
    assert_eq!(rig.provider.inspect(&sandbox).await.unwrap(), Observed::Stopped);
    rig.provider.destroy(&sandbox).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn two_servers_starting_a_supervisor_get_one() {
    let rig = Rig::new().await;
    let other = rig.reopened().await;
    let (one, two) = (spec(), spec());
    let (one, two) = tokio::join!(rig.provider.create(&one), other.create(&two));
    rig.provider.destroy(&one.unwrap()).await.unwrap();
    rig.provider.destroy(&two.unwrap()).await.unwrap();
    rig.finish().await;
}

#[tokio::test]
async fn nothing_is_left_of_an_engine_that_was_used_up() {
    let rig = Rig::new().await;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let sandbox = rig.sandbox().await;
    rig.sh(&sandbox, "mkdir -m 0 closed; ln -s /etc link; sleep 1000 >/dev/null 2>&1 &").await;
    let dir = rig.path();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    rig.provider.destroy(&sandbox).await.unwrap();
    let supervisor = supervisor_of(&dir);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/leak-check.sh");
    rig.provider.release_supervisor().await.unwrap();
    while Path::new(&format!("/proc/{supervisor}/root")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let found = std::process::Command::new(script).arg(&dir).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
    rig.finish().await;
}
