//! An engine of its own for each test, and how to give orders inside a sandbox.

use std::path::{Path, PathBuf};

use rclaude_sandbox::{
    local::{LocalConfig, LocalProvider},
    provider::{Bootstrap, SandboxProvider as _, SandboxRef, SandboxSpec},
};
use rclaude_types::{Resources, SandboxId};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

pub(crate) const TOKEN: &str = "a-token";

/// What an order came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub status: i64,
    pub out: String,
}

#[derive(Debug)]
pub(crate) struct Rig {
    pub provider: LocalProvider,
    dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = LocalProvider::open(config(dir.path())).await.unwrap();
        Self { provider, dir }
    }

    /// The engine's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// What another server on the same directory would hold.
    pub(crate) async fn reopened(&self) -> LocalProvider {
        LocalProvider::open(config(self.dir.path())).await.unwrap()
    }

    pub(crate) async fn sandbox(&self) -> SandboxRef {
        self.provider.create(&spec()).await.unwrap()
    }

    /// Runs a shell command as the agent.
    pub(crate) async fn sh(&self, sandbox: &SandboxRef, command: &str) -> Outcome {
        self.run(sandbox, 1000, &["sh", "-c", command]).await
    }

    pub(crate) async fn run(&self, sandbox: &SandboxRef, uid: u32, argv: &[&str]) -> Outcome {
        let stream = self.provider.dial(sandbox).await.unwrap();
        let mut stream = BufReader::new(stream);
        let order = json!({ "token": TOKEN, "uid": uid, "argv": argv });
        stream.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let value: Value = serde_json::from_str(&line).unwrap();
        Outcome {
            status: value["status"].as_i64().unwrap(),
            out: value["out"].as_str().unwrap().trim_end().to_owned(),
        }
    }

    /// Tries a forbidden thing; the error number it met, or `ok`.
    pub(crate) async fn attempt(&self, sandbox: &SandboxRef, uid: u32, what: &str) -> String {
        let outcome = self.run(sandbox, uid, &["/proc/self/exe", "attempt", what]).await;
        assert_eq!(outcome.status, 0, "{what}: {}", outcome.out);
        outcome.out
    }

    /// Ends the supervisor; sandboxes must have been destroyed.
    pub(crate) async fn finish(self) {
        self.provider.release_supervisor().await.unwrap();
    }
}

fn config(dir: &Path) -> LocalConfig {
    LocalConfig {
        agentd: Some(env!("CARGO_BIN_EXE_rclaude-test-daemon").into()),
        ..LocalConfig::new(dir, env!("CARGO_BIN_EXE_rclaude-test-supervisor"))
    }
}

pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::generate(),
        template: "host".to_owned(),
        resources: Resources { cpu_millis: 1000, memory_mib: 512, pids: 200 },
        bootstrap: Bootstrap { token: TOKEN.to_owned() },
        layers: Vec::new(),
        binds: Vec::new(),
        files: Vec::new(),
        allow_root: true,
    }
}
