//! A daemon to test against, ended with the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use rclaude_sandbox::agentd::{Client, Output, OutputStream};
use rclaude_types::{
    ExecId,
    agentd::{ProcessInfo, ProcessSpec, Stdin, User},
};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

/// The token of every daemon here.
pub(crate) const TOKEN: &str = "a-token-for-tests";

/// A running daemon with a directory of its own.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) directory: TempDir,
    tasks: TaskTracker,
}

impl Daemon {
    /// Starts a daemon.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[])
    }

    /// Starts a daemon over what an earlier one left, with `wrapper` before its command.
    pub(crate) fn start_in(directory: TempDir, wrapper: &[&str]) -> Self {
        Self::launch(directory, wrapper, &[])
    }

    /// As [`start_in`](Self::start_in), with a wrapper that makes a user namespace of one id:
    /// there the agent is the daemon's own user.
    pub(crate) fn start_in_namespace(directory: TempDir, wrapper: &[&str]) -> Self {
        Self::launch(directory, wrapper, &["--agent", "0:0"])
    }

    fn launch(directory: TempDir, wrapper: &[&str], options: &[&str]) -> Self {
        let at = |name: &str| directory.path().join(name);
        // The daemon's user must be able to reach the files of the tests.
        open_to_all(directory.path());
        std::fs::write(at("token"), TOKEN).unwrap();
        let _ = std::fs::remove_file(at("socket"));
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_rclaude-agentd"));
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(options)
            .arg("--state")
            .arg(at("state"))
            .arg("--listen")
            .arg(at("socket"))
            .arg("--token-file")
            .arg(at("token"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, directory, tasks: TaskTracker::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A stream to its socket, once it listens.
    pub(crate) async fn dial(&self) -> UnixStream {
        let path = self.directory.path().join("socket");
        for _ in 0..2000 {
            if let Ok(stream) = UnixStream::connect(&path).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the daemon does not listen");
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(TOKEN).await
    }

    pub(crate) async fn client_with(&self, token: &str) -> Client {
        Client::connect(Box::new(self.dial().await), token, &self.tasks).await.unwrap()
    }

    /// Kills it on the spot and returns what it leaves.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        for _ in 0..2000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the daemon does not end");
    }

    /// A path among the test's own files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let files = self.directory.path().join("files");
        if !files.exists() {
            std::fs::create_dir(&files).unwrap();
            open_to_all(&files);
        }
        files.join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// A command for the shell.
pub(crate) fn sh(script: &str) -> ProcessSpec {
    command(&["/bin/sh", "-c", script])
}

/// A command.
pub(crate) fn command(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|&it| it.to_owned()).collect(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: "/".to_owned(),
        user: User::Agent,
        stdin: Stdin::Closed,
        timeout_seconds: None,
        keep: false,
        attended: false,
    }
}

/// All a process printed, and its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) end: ProcessInfo,
}

/// Reads output to its end.
pub(crate) async fn all(mut stream: OutputStream) -> Printed {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(output) = stream.next().await {
        match output.unwrap() {
            Output::Stdout { bytes, .. } => stdout.extend_from_slice(&bytes),
            Output::Stderr { bytes, .. } => stderr.extend_from_slice(&bytes),
            Output::End(end) => return Printed { stdout, stderr, end: *end },
        }
    }
    panic!("output without an end");
}

/// Runs a command to its end.
pub(crate) async fn run(client: &Client, spec: &ProcessSpec) -> Printed {
    all(client.run(&ExecId::generate(), spec).await.unwrap()).await
}

/// Pieces to upload.
pub(crate) fn pieces(bytes: &[u8]) -> impl futures::Stream<Item = std::io::Result<Bytes>> + use<> {
    let pieces: Vec<_> =
        bytes.chunks(50_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures::stream::iter(pieces)
}
