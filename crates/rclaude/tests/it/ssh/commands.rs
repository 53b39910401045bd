//! Commands: streams, ends, and what happens to them when something goes away.

use std::{
    fs::File,
    io::{Read, Write},
    process::Stdio,
    time::{Duration, Instant},
};

use rclaude_types::{EventBody, Phase};

use super::{Ssh, output, text};
use crate::platform::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_three_streams_an_exit_code_and_a_place_in_the_log() {
    let ssh = Ssh::start().await;
    let mut command = ssh.program("ssh", &["-o", "SendEnv=LC_TIME EVIL", "box"]);
    command.arg("tr a-z A-Z; id -un; pwd; echo $LC_TIME$EVIL >&2; exit 7");
    command.env("LC_TIME", "C.UTF-8").env("EVIL", "not passed on");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(ended.status.code(), Some(7));
    assert_eq!(text(&ended.stdout), "HELLO\nagent\n/workspace\n");
    assert_eq!(text(&ended.stderr), "C.UTF-8\n");

    assert_eq!(ssh.run("kill -TERM $$").await.status.code(), Some(255));
    assert_eq!(ssh.run("nonesuch").await.status.code(), Some(127));
    let mut shell = ssh.ssh(&[]);
    let mut child = shell.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo $((6*7))\nexit 3\n").unwrap();
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(3), "42\n".to_owned()));

    let id = ssh.platform.get("box").await.id.to_string();
    let ended = ssh.platform.event(&id, |event| match event.body {
        EventBody::ExecEnded { exit_code: Some(7), .. } => Some(()),
        _ => None,
    });
    ended.await;
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_either_way_is_whole_and_takes_no_memory_and_no_disk() {
    const SIZE: u64 = 256 << 20;
    let ssh = Ssh::start().await;
    ssh.run("true").await;
    let path = ssh.platform.scratch().join("big");
    let made = std::process::Command::new("sh")
        .args(["-c", &format!("head -c {SIZE} /dev/urandom > {}", path.display())])
        .status();
    assert!(made.unwrap().success());
    let before = ssh.platform.peak_memory_mib();
    let mut command = std::process::Command::new("sha256sum");
    command.arg(&path);
    let wanted = text(&output(ssh.at_home(command)).await.stdout)[..64].to_owned();
    let mut up = ssh.ssh(&["tee copy | sha256sum"]);
    up.stdin(File::open(&path).unwrap());
    assert_eq!(text(&output(up).await.stdout)[..64], wanted);

    // What is on the disk is looked at when all has been printed, and before it ends.
    let used = || -> u64 {
        let mut du = std::process::Command::new("du");
        let du = du.arg("-sk").arg(ssh.platform.data().join("engine")).output().unwrap();
        text(&du.stdout).split_whitespace().next().unwrap().parse().unwrap()
    };
    let before_kb = used();
    let mut command = std::process::Command::new("sh");
    let line = "cat copy; echo over >&2; read go";
    let line = format!("ssh -F {} box '{line}' | sha256sum", ssh.config.display());
    command.args(["-c", &line]);
    let mut down = ssh.at_home(command).stdin(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    down.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"over\n");
    let during_kb = used();
    drop(down.stdin.take());
    let down = tokio::task::spawn_blocking(|| down.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(text(&down.stdout)[..64], wanted, "{down:?}");
    assert!(during_kb < before_kb + 16 * 1024, "{before_kb} kB became {during_kb} kB");
    let after = ssh.platform.peak_memory_mib();
    assert!(after < before + 64, "{before} MiB became {after} MiB");
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stalls_holds_up_nobody_else_and_whoever_leaves_is_hung_up_on() {
    let ssh = Ssh::start().await;
    let id = ssh.platform.get("box").await.id.to_string();
    // Neither is read: one's input in the sandbox, the other's output here.
    let mut unread = ssh.ssh(&["sleep 1000"]);
    let mut unread = unread.stdin(File::open("/dev/zero").unwrap()).spawn().unwrap();
    let mut flood = ssh.ssh(&["head -c 500000000 /dev/zero"]).spawn().unwrap();
    flood.stdout.as_mut().unwrap().read_exact(&mut [0; 4096]).unwrap();
    until_some(&ssh, &id, "sleep").await;
    until_some(&ssh, &id, "head").await;
    for _ in 0..20 {
        assert_eq!(ssh.ok("echo here").await, "here\n");
    }
    let peak = ssh.platform.peak_memory_mib();
    assert!(peak < 200, "{peak} MiB");
    assert!(!ssh.platform.processes_of(&id, "head").await.is_empty(), "it waits for its reader");
    for child in [&mut unread, &mut flood] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    until_none(&ssh, &id, "sleep").await;
    until_none(&ssh, &id, "head").await;
    // And their ends are written, or the session would never rest.
    let started = Instant::now();
    loop {
        let list = ssh.platform.ok("GET", "/v1/sessions/box/execs", None).await;
        let list = list["data"].as_array().unwrap().clone();
        if list.iter().all(|exec| exec["state"] == "exited") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{list:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_each_get_their_own() {
    let ssh = Ssh::start().await;
    let commands: Vec<_> = (0..20)
        .map(|n| tokio::spawn(output(ssh.ssh(&[&format!("sleep 0.2; echo {n}; exit {n}")]))))
        .collect();
    for (n, command) in commands.into_iter().enumerate() {
        let output = command.await.unwrap();
        assert_eq!(output.status.code(), i32::try_from(n).ok(), "{output:?}");
        assert_eq!(text(&output.stdout), format!("{n}\n"));
    }
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_rests_wakes_for_a_command_and_a_pause_ends_one_in_words() {
    let ssh = Ssh::start_with(&["--idle", "1s"]).await;
    let phase = async || ssh.platform.get("box").await.phase;
    ssh.ok("echo kept > kept").await;
    let started = Instant::now();
    while phase().await != Phase::Paused {
        assert!(started.elapsed() < PATIENCE, "never at rest\n{}", ssh.platform.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ssh.ok("cat kept").await, "kept\n");
    // One that runs keeps it awake for longer than it would be otherwise.
    assert_eq!(ssh.ok("sleep 3; echo still here").await, "still here\n");

    let waiting = tokio::spawn(output(ssh.ssh(&["sleep 1000"])));
    let id = ssh.platform.get("box").await.id.to_string();
    until_some(&ssh, &id, "sleep").await;
    assert_eq!(ssh.platform.run(&["pause", "box"]).await.code, Some(0));
    let ended = waiting.await.unwrap();
    assert_eq!(ended.status.code(), Some(255));
    assert!(text(&ended.stderr).contains("session_paused"), "{ended:?}");
    assert_eq!(ssh.ok("cat kept").await, "kept\n");
    ssh.platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_takes_its_clients_along_and_no_file() {
    let mut ssh = Ssh::start().await;
    let id = ssh.platform.get("box").await.id.to_string();
    ssh.ok("echo kept > kept; sync").await;
    let waiting = tokio::spawn(output(ssh.ssh(&["echo begun > begun; sleep 1000"])));
    until_some(&ssh, &id, "sleep").await;
    ssh.platform.kill();
    let ended = waiting.await.unwrap();
    assert_eq!(ended.status.code(), Some(255), "{ended:?}");
    ssh.platform.restart().await;
    // Its port is another; its key, and the session, are the same.
    let known = |ssh: &Ssh| {
        std::fs::read(ssh.platform.scratch().join(".config/rclaude/ssh/known_hosts")).unwrap()
    };
    let before = known(&ssh);
    ssh.configure().await;
    assert_eq!(known(&ssh), before);
    assert_eq!(ssh.ok("cat kept begun").await, "kept\nbegun\n");
    until_none(&ssh, &id, "sleep").await;
    ssh.platform.end().await;
}

/// Waits until such a process is in the sandbox.
async fn until_some(ssh: &Ssh, id: &str, name: &str) {
    until(ssh, id, name, true).await;
}

/// Waits until no such process is in the sandbox any more.
async fn until_none(ssh: &Ssh, id: &str, name: &str) {
    until(ssh, id, name, false).await;
}

async fn until(ssh: &Ssh, id: &str, name: &str, wanted: bool) {
    let started = Instant::now();
    while ssh.platform.processes_of(id, name).await.is_empty() == wanted {
        let log = ssh.platform.log();
        assert!(started.elapsed() < PATIENCE, "{name}: never {wanted}\n{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
