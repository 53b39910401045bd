//! An engine of its own for each test, and how to give orders inside a sandbox.
#![expect(clippy::unwrap_used, reason = "what breaks here breaks the test that called")]

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
    config: LocalConfig,
    dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        let supervisor = Path::new(env!("CARGO_BIN_EXE_rclaude-test-supervisor"));
        Self::with_programs(supervisor.parent().unwrap()).await
    }

    /// With a file system of the engine's own.
    pub(crate) async fn with_image(bytes: u64) -> Self {
        let supervisor = Path::new(env!("CARGO_BIN_EXE_rclaude-test-supervisor"));
        Self::with(supervisor.parent().unwrap(), Some(bytes)).await
    }

    /// With the supervisor and the daemon that lie in `programs`.
    pub(crate) async fn with_programs(programs: &Path) -> Self {
        Self::with(programs, None).await
    }

    async fn with(programs: &Path, image: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = LocalConfig {
            agentd: Some(programs.join("rclaude-test-daemon")),
            image,
            ..LocalConfig::new(dir.path(), programs.join("rclaude-test-supervisor"))
        };
        let provider = LocalProvider::open(config.clone()).await.unwrap();
        Self { provider, config, dir }
    }

    /// The engine's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// What another server on the same directory would hold.
    pub(crate) async fn reopened(&self) -> LocalProvider {
        LocalProvider::open(self.config.clone()).await.unwrap()
    }

    pub(crate) async fn sandbox(&self) -> SandboxRef {
        self.provider.create(&spec()).await.unwrap()
    }

    /// Runs a shell command as the agent.
    pub(crate) async fn sh(&self, sandbox: &SandboxRef, command: &str) -> Outcome {
        self.run(sandbox, 1000, &["sh", "-c", command]).await
    }

    pub(crate) async fn run(&self, sandbox: &SandboxRef, uid: u32, argv: &[&str]) -> Outcome {
        self.order(sandbox, uid, argv).await
    }

    fn order(
        &self,
        sandbox: &SandboxRef,
        uid: u32,
        argv: &[&str],
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let (provider, sandbox) = (self.provider.clone(), sandbox.clone());
        let order = json!({ "token": TOKEN, "uid": uid, "argv": argv });
        async move {
            let stream = provider.dial(&sandbox).await.unwrap();
            let mut stream = BufReader::new(stream);
            stream.write_all(format!("{order}\n").as_bytes()).await.unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            Outcome {
                status: value["status"].as_i64().unwrap(),
                out: value["out"].as_str().unwrap().trim_end().to_owned(),
            }
        }
    }

    /// The same, begun now.
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    pub(crate) fn begin(
        &self,
        sandbox: &SandboxRef,
        uid: u32,
        argv: &[&str],
    ) -> tokio::task::JoinHandle<Outcome> {
        tokio::spawn(self.order(sandbox, uid, argv))
    }

    /// The sandbox's first process, as the host numbers it.
    pub(crate) fn first_process(&self, sandbox: &SandboxRef) -> i32 {
        let state = self.path().join("sandboxes").join(&sandbox.0).join("state.json");
        let value: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
        value["process"]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Has the sandbox frozen by the host's cgroups of that version only, by making the engine
    /// believe that it is in no others. `false` where they cannot freeze it.
    pub(crate) fn freeze_by_version(&self, sandbox: &SandboxRef, version: u8) -> bool {
        let path = self.path().join("sandboxes").join(&sandbox.0).join("state.json");
        let mut state: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let places = state["cgroups"].as_array_mut().unwrap();
        let unified = |place: &Value| place["unified"].as_bool().unwrap();
        let can_freeze = places.iter().any(|place| {
            let split = place["controllers"].as_array().unwrap().contains(&"freezer".into());
            if version == 2 { unified(place) } else { split }
        });
        let mut other = places.clone();
        if version == 1 {
            other.retain(|place| !unified(place));
        } else {
            for place in other.iter_mut().filter(|place| !unified(place)) {
                let controllers = place["controllers"].as_array_mut().unwrap();
                controllers.retain(|name| name != "freezer");
            }
        }
        *places = other;
        if can_freeze {
            std::fs::write(&path, state.to_string()).unwrap();
        }
        can_freeze
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

pub(crate) fn spec() -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::generate(),
        template: "host".to_owned(),
        resources: Resources { cpu_millis: 1000, memory_mib: 512, pids: 200 },
        bootstrap: Bootstrap { token: TOKEN.to_owned() },
        layers: Vec::new(),
        stack: Vec::new(),
        binds: Vec::new(),
        files: Vec::new(),
        allow_root: true,
    }
}

/// Process id of the supervisor of the engine in `dir`.
pub(crate) fn supervisor_of(dir: &Path) -> i32 {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = command.split(|byte| *byte == 0).collect();
        if arguments.contains(&b"__supervisor".as_slice())
            && arguments.contains(&dir.as_os_str().as_encoded_bytes())
        {
            found.push(pid);
        }
    }
    assert_eq!(found.len(), 1, "one supervisor serves {}", dir.display());
    found[0]
}

/// Kills a process and waits until it is gone.
pub(crate) async fn kill(pid: i32) {
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    while std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

/// How many cgroups there are for a sandbox, in all hierarchies.
pub(crate) fn cgroups_of(sandbox: &str) -> usize {
    let find = ["/sys/fs/cgroup", "-type", "d", "-name", sandbox];
    let found = std::process::Command::new("find").args(find).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().count()
}
