//! The real daemon, as the build embedded it, in a real sandbox.
#![expect(clippy::unwrap_used, reason = "what breaks in a helper breaks the test that called")]

use rclaude_sandbox::{
    agentd::{Client, Output, OutputFrom, OutputStream},
    local::{LocalConfig, LocalProvider},
    provider::{Pausing as _, ReadOnlyBind, SandboxProvider as _, SandboxRef, SandboxSpec},
};
use rclaude_types::{
    ExecId,
    agentd::{ProcessSpec, ProcessState, Stdin, User},
};
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;

use crate::rig::{TOKEN, spec};

async fn connect(provider: &LocalProvider, sandbox: &SandboxRef) -> Client {
    let stream = provider.dial(sandbox).await.unwrap();
    Client::connect(stream, TOKEN, &TaskTracker::new()).await.unwrap()
}

fn shell(user: User, line: &str) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()],
        env: [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/home/agent")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        cwd: "/workspace".to_owned(),
        user,
        stdin: Stdin::Closed,
        timeout_seconds: None,
        keep: false,
        attended: false,
    }
}

/// Runs a shell command and returns what it printed.
async fn run(client: &Client, user: User, line: &str) -> String {
    let spec = shell(user, line);
    read(client.run(&ExecId::generate(), &spec).await.unwrap()).await
}

/// All that a process printed.
async fn read(mut output: OutputStream) -> String {
    let mut text = String::new();
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Stdout { bytes, .. } | Output::Stderr { bytes, .. } => {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            Output::End(_) => break,
        }
    }
    text.trim_end().to_owned()
}

#[tokio::test]
async fn the_embedded_daemon_runs_processes_and_comes_back_after_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = env!("CARGO_BIN_EXE_rclaude-test-supervisor");
    let provider = LocalProvider::open(LocalConfig::new(dir.path(), supervisor)).await.unwrap();
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("hello");
    std::fs::write(&program, "#!/bin/sh\necho hello\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    std::fs::set_permissions(programs.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let bind = ReadOnlyBind {
        source: programs.path().to_owned(),
        target: "/opt/rclaude/agents/claude-code".into(),
    };
    let spec = SandboxSpec { binds: vec![bind], ..spec() };
    let sandbox = provider.create(&spec).await.unwrap();
    let client = connect(&provider, &sandbox).await;
    client.health().await.unwrap();
    let line = "id -u; grep CapEff /proc/self/status; echo kept > file; \
                /opt/rclaude/agents/claude-code/hello";
    assert_eq!(run(&client, User::Agent, line).await, "1000\nCapEff:\t0000000000000000\nhello");
    assert_eq!(run(&client, User::Root, "id -u").await, "0");
    provider.stop(&sandbox).await.unwrap();
    provider.resume(&sandbox).await.unwrap();
    let client = connect(&provider, &sandbox).await;
    assert_eq!(run(&client, User::Agent, "cat file").await, "kept");
    provider.destroy(&sandbox).await.unwrap();
    provider.release_supervisor().await.unwrap();
}

#[tokio::test]
async fn what_was_printed_before_a_freeze_is_journalled_when_the_frozen_sandbox_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = env!("CARGO_BIN_EXE_rclaude-test-supervisor");
    let provider = LocalProvider::open(LocalConfig::new(dir.path(), supervisor)).await.unwrap();
    let sandbox = provider.create(&spec()).await.unwrap();
    let client = connect(&provider, &sandbox).await;
    // Whatever number is in the file was printed before.
    let line = "i=0; while :; do i=$((i+1)); echo $i; echo $i >> n; done";
    let exec = ExecId::generate();
    client.start(&exec, &shell(User::Agent, line)).await.unwrap();
    let file = dir.path().join("sandboxes").join(&sandbox.0).join("upper/workspace/n");
    let counted = || std::fs::read_to_string(&file).unwrap_or_default();
    while counted().lines().count() < 1000 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    provider.freeze(&sandbox).await.unwrap();
    let counted: u64 = counted().lines().last().unwrap().parse().unwrap();
    provider.stop(&sandbox).await.unwrap();
    provider.resume(&sandbox).await.unwrap();
    let client = connect(&provider, &sandbox).await;
    let printed = read(client.output(&exec, OutputFrom::default()).await.unwrap()).await;
    let printed: u64 = printed.lines().last().unwrap().parse().unwrap();
    assert!(printed == counted || printed == counted + 1, "{printed} of {counted}");
    let state = client.process(&exec).await.unwrap().state;
    assert!(matches!(state, ProcessState::Exited { signal: Some(9), .. }), "{state:?}");
    provider.destroy(&sandbox).await.unwrap();
    provider.release_supervisor().await.unwrap();
}
