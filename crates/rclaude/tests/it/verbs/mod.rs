//! Every verb as its users type it, against a whole platform: for people, and with `--json` for
//! programs. What `--json` prints is read as the types that document it.

mod answers;
mod commands;
mod files;
mod files_broken;
mod pauses;
mod server;
mod sessions;
mod states;

use std::{io::Write, process::Stdio};

use rclaude_types::{Event, EventBody, TurnOutcome};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    platform::{Platform, script},
    support::Ran,
};

/// The one value on standard output.
fn one<T: DeserializeOwned>(ran: &Ran) -> T {
    let [only] = lines(ran).try_into().unwrap_or_else(|_| panic!("not one line: {ran:?}"));
    only
}

/// The values on standard output, one a line.
fn lines<T: DeserializeOwned>(ran: &Ran) -> Vec<T> {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    ran.stdout.lines().map(read).collect()
}

/// A session with `run --json`, and the events that came of its prompt.
fn followed<T: DeserializeOwned>(ran: &Ran) -> (T, Vec<Event>) {
    let (first, rest) = ran.stdout.split_once('\n').unwrap();
    let rest = Ran { stdout: rest.to_owned(), stderr: String::new(), ..*ran };
    (serde_json::from_str(first).unwrap(), lines(&rest))
}

fn outcome(events: &[Event]) -> TurnOutcome {
    match events.last().map(|event| &event.body) {
        Some(EventBody::TurnEnded { outcome, .. }) => *outcome,
        other => panic!("not the end of a turn: {other:?}"),
    }
}

/// A prompt that makes the agent run a command, and then say something.
fn command(command: &str, say: &str) -> String {
    script(&json!([[{"tool": "Bash", "input": {"command": command}}], [{"text": say}]]))
}

impl Platform {
    /// Runs a verb that must succeed.
    pub(crate) async fn done(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}\n{}", self.log());
        ran
    }

    /// Runs a verb with bytes at its standard input; its exit code, output and errors as bytes.
    pub(crate) async fn feed(
        &self,
        arguments: &[&str],
        input: Vec<u8>,
    ) -> (Option<i32>, Vec<u8>, String) {
        let mut command = self.cli(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // From beside, as it may answer before it has read everything. A reader that has
            // had enough is no failure.
            let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
            let output = child.wait_with_output().unwrap();
            feeder.join().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            (output.status.code(), output.stdout, stderr)
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}
