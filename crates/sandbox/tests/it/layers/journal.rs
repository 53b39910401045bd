//! A state sealed while its daemon was at work, as the next daemon finds it.
#![expect(clippy::unwrap_used, reason = "what breaks in a helper breaks the test that called")]

use std::time::Duration;

use rclaude_sandbox::{
    agentd::{Client, Output, OutputFrom},
    local::{LocalConfig, LocalProvider},
    provider::{Layering as _, SandboxProvider as _, SandboxRef, SandboxSpec},
};
use rclaude_types::{
    ExecId, LayerId,
    agentd::{ProcessSpec, ProcessState, Stdin, User},
};
use tokio_stream::StreamExt as _;
use tokio_util::task::TaskTracker;

use crate::rig::{TOKEN, spec};

async fn connect(provider: &LocalProvider, sandbox: &SandboxRef) -> Client {
    let stream = provider.dial(sandbox).await.unwrap();
    Client::connect(stream, TOKEN, &TaskTracker::new()).await.unwrap()
}

fn process(line: &str) -> ProcessSpec {
    ProcessSpec {
        argv: ["sh", "-c", line].map(str::to_owned).into(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: "/workspace".to_owned(),
        user: User::Agent,
        stdin: Stdin::Closed,
        timeout_seconds: None,
        keep: true,
        attended: false,
    }
}

#[tokio::test]
async fn what_ran_is_lost_there_what_it_printed_is_not_and_others_can_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = env!("CARGO_BIN_EXE_rclaude-test-supervisor");
    let provider = LocalProvider::open(LocalConfig::new(dir.path(), supervisor)).await.unwrap();
    let sandbox = provider.create(&spec()).await.unwrap();
    let client = connect(&provider, &sandbox).await;
    let id = ExecId::generate();
    client.start(&id, &process("echo printed; exec sleep 1000")).await.unwrap();
    while client.process(&id).await.unwrap().stdout_bytes == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let layer = LayerId::generate();
    provider.seal(&sandbox, &layer, None).await.unwrap();
    let fork = SandboxSpec { stack: vec![layer], ..spec() };
    let fork = provider.create(&fork).await.unwrap();
    let client = connect(&provider, &fork).await;
    let found = client.processes().await.unwrap();
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&found.id, found.state, found.stdout_bytes), (&id, ProcessState::Lost, 8));
    let mut output = client.output(&id, OutputFrom::default()).await.unwrap();
    let printed = output.next().await.unwrap().unwrap();
    assert!(matches!(&printed, Output::Stdout { bytes, .. } if &bytes[..] == b"printed\n"));
    let next = ExecId::generate();
    client.start(&next, &process("exit 3")).await.unwrap();
    while !client.process(&next).await.unwrap().state.is_final() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(client.processes().await.unwrap().len(), 2);
    for sandbox in [&sandbox, &fork] {
        provider.destroy(sandbox).await.unwrap();
    }
    provider.release_supervisor().await.unwrap();
}
