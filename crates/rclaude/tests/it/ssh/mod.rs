//! Sessions over SSH, with OpenSSH's own clients.

mod commands;
mod door;
mod files;
mod ports;
mod terminals;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::platform::{Agent, Platform};

/// A server that lets SSH clients in, a session in it called `box`, and what `ssh` must know of it.
struct Ssh {
    platform: Platform,
    config: PathBuf,
}

impl Ssh {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let flags = [&["--ssh", "127.0.0.1:0"], flags].concat();
        let platform = Platform::start_with(Agent::Missing, &flags).await;
        let made = platform.run(&["start", "--name", "box"]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let config = platform.scratch().join("ssh_config");
        let ssh = Self { platform, config };
        ssh.configure().await;
        ssh
    }

    /// Writes down where the session is, as its user does.
    async fn configure(&self) {
        let told = self.platform.run(&["ssh-config", "box"]).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        fs::write(&self.config, told.stdout).unwrap();
    }

    /// One of OpenSSH's programs, with its configuration.
    fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(&self.config).args(arguments);
        self.at_home(command)
    }

    /// A program that knows nothing of the environment the tests run in.
    fn at_home(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.platform.scratch())
            .current_dir(self.platform.scratch())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `ssh box` with these arguments.
    fn ssh(&self, arguments: &[&str]) -> Command {
        self.program("ssh", &[&["box"], arguments].concat())
    }

    /// Runs a command in the session.
    async fn run(&self, command: &str) -> Output {
        output(self.ssh(&[command])).await
    }

    /// The same, which must succeed; what it printed.
    async fn ok(&self, command: &str) -> String {
        let output = self.run(command).await;
        assert!(output.status.success(), "{command}: {output:?}\n{}", self.platform.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs one of OpenSSH's programs, which must succeed.
    async fn done(&self, program: &str, arguments: &[&str]) -> String {
        let output = output(self.program(program, arguments)).await;
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.platform.log());
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Runs a program to its end, off the runtime's threads.
async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
