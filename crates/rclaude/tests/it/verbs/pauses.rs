//! Setting sessions aside, by hand and by themselves, and bringing them back.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rclaude_types::{Phase, Session, SessionStatus};

use super::{command, lines, one};
use crate::platform::{PATIENCE, Platform};

/// Counts in its memory alone, and says each number.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";

/// A verb that runs beside the test, and what it prints.
struct Beside {
    child: Child,
    lines: Receiver<String>,
}

impl Beside {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// The next line, which must come.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// All that comes until nothing does for a while.
    fn rest(&self) -> Vec<String> {
        let quiet = Duration::from_millis(500);
        std::iter::from_fn(|| self.lines.recv_timeout(quiet).ok()).collect()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Platform {
    async fn shown(&self, name: &str) -> Session {
        one(&self.done(&["show", name, "--json"]).await)
    }

    /// Waits until a session is in a phase.
    async fn reaches(&self, name: &str, phase: Phase) -> Session {
        let started = Instant::now();
        loop {
            let session = self.shown(name).await;
            if session.phase == phase {
                return session;
            }
            assert!(started.elapsed() < PATIENCE, "{session:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_session_stands_still_and_goes_on_where_it_was() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "still"]).await;
    let counter = Beside::start(platform.cli(&["exec", "still", "--", "sh", "-c", COUNTER]));
    assert_eq!(counter.line(), "1");
    let paused = platform.done(&["pause", "still"]).await;
    assert!(paused.stderr.contains("paused still"), "{paused:?}");
    let session = platform.shown("still").await;
    assert_eq!((session.phase, session.status), (Phase::Paused, SessionStatus::Paused));
    let last: u64 = counter.rest().last().map_or("1", String::as_str).parse().unwrap();
    assert!(counter.rest().is_empty(), "it stands still");

    let again: Session = one(&platform.done(&["pause", "still", "--json"]).await);
    assert_eq!(again.phase, Phase::Paused, "pausing twice is fine");
    let listed = platform.done(&["ls"]).await.stdout;
    assert!(listed.contains("paused"), "{listed}");
    assert!(platform.done(&["resume", "still"]).await.stderr.contains("resumed still"));
    assert_eq!(counter.line(), (last + 1).to_string(), "its memory was kept");

    platform.done(&["pause", "still"]).await;
    let woken = platform.done(&["exec", "still", "--", "echo", "awake"]).await;
    assert_eq!(woken.stdout, "awake\n", "a command wakes it");
    let shown = platform.done(&["show", "still"]).await.stdout;
    assert!(shown.contains("paused") && shown.contains("running"), "{shown}");
    drop(counter);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hibernated_session_keeps_what_its_processes_wrote_and_not_the_processes() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "nap"]).await;
    let script = format!("{COUNTER} | tee numbers");
    let counter = Beside::start(platform.cli(&["exec", "nap", "--", "sh", "-c", &script]));
    assert_eq!(counter.line(), "1");
    let hibernated = platform.done(&["pause", "--hibernate", "nap"]).await;
    assert!(hibernated.stderr.contains("stopped nap"), "{hibernated:?}");
    assert_eq!(platform.shown("nap").await.phase, Phase::Hibernated);
    let deeper = platform.done(&["pause", "nap"]).await;
    assert!(deeper.stderr.contains("nap is hibernated already"), "{deeper:?}");
    platform.done(&["resume", "nap"]).await;
    let numbers = platform.done(&["exec", "nap", "--", "head", "-1", "numbers"]).await;
    assert_eq!(numbers.stdout, "1\n");
    assert!(platform.processes_of("nap", "tee").await.is_empty(), "no process came back");

    // From standing still further down, and up again.
    platform.done(&["pause", "nap"]).await;
    assert!(platform.done(&["stop", "nap"]).await.stderr.contains("stopped nap"));
    let session: Session = one(&platform.done(&["resume", "nap", "--json"]).await);
    assert_eq!(session.phase, Phase::Running);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_session_leaves_the_machine_and_comes_back_whole() {
    let platform = Platform::start().await;
    platform.done(&["run", "--yolo", "--name", "far", &command("echo kept > a", "Done.")]).await;
    platform.done(&["exec", "far", "--", "sh", "-c", "echo home > ~/b"]).await;
    let archived = platform.done(&["pause", "--archive", "far"]).await;
    assert!(archived.stderr.contains("archived far"), "{archived:?}");
    assert_eq!(platform.shown("far").await.status, SessionStatus::Archived);
    let left = std::fs::read_dir(platform.data().join("engine/sandboxes")).unwrap().count();
    assert_eq!(left, 0, "nothing of it is among the sandboxes");
    platform.done(&["resume", "far"]).await;
    let files = platform.done(&["exec", "far", "--", "sh", "-c", "cat a ~/b"]).await;
    assert_eq!(files.stdout, "kept\nhome\n");
    let said = platform.done(&["send", "far", &command("cat a", "Still here.")]).await;
    assert_eq!(said.stdout, "Still here.\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_freezes_by_itself_unless_it_is_told_not_to() {
    let platform = Platform::start_with(crate::platform::Agent::Real, &["--idle", "1s"]).await;
    platform.done(&["start", "--name", "idle"]).await;
    platform.done(&["start", "--name", "awake", "--idle", "never"]).await;
    platform.done(&["start", "--name", "kept", "--keep-alive", "1h"]).await;
    let session = platform.reaches("idle", Phase::Paused).await;
    assert_eq!(session.desired_reason.as_deref(), Some("idle"));
    let listed = platform.done(&["ls"]).await.stdout;
    assert!(listed.contains("paused (idle)"), "{listed}");
    for name in ["awake", "kept"] {
        assert_eq!(platform.shown(name).await.phase, Phase::Running, "{name}");
    }

    let attached = Beside::start(platform.cli(&["attach", "idle"]));
    while !attached.line().contains("idle was paused (idle); waking it") {}
    platform.reaches("idle", Phase::Running).await;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(platform.shown("idle").await.phase, Phase::Running, "somebody watches");
    drop(attached);
    platform.reaches("idle", Phase::Paused).await;

    let changed = platform.done(&["set", "awake", "--idle", "default"]).await;
    assert!(changed.stderr.contains("awake is changed"), "{changed:?}");
    platform.reaches("awake", Phase::Paused).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_used_up_an_allowance_rests_until_it_is_raised() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "old", "--ttl", "2s"]).await;
    let session = platform.reaches("old", Phase::Hibernated).await;
    assert_eq!(session.desired_reason.as_deref(), Some("ttl"));
    let refusals: [&[&str]; 3] =
        [&["resume", "old"], &["exec", "old", "--", "true"], &["send", "old", "hello"]];
    for verb in refusals {
        let refused = platform.run(verb).await;
        assert_eq!(refused.code, Some(6), "{verb:?}: {refused:?}");
        assert!(refused.stderr.contains("ttl"), "{verb:?}: {refused:?}");
    }
    let raised = platform.done(&["set", "old", "--ttl", "1d", "--name", "raised"]).await;
    assert!(raised.stderr.contains("hibernates at the age of 1d"), "{raised:?}");
    platform.done(&["resume", "raised"]).await;
    let session: Session =
        one(&platform.done(&["set", "raised", "--ttl", "never", "--json"]).await);
    assert_eq!(session.life, rclaude_types::LifePolicy::default());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_runs_before_the_first_prompt_and_its_failure_is_told() {
    let platform = Platform::start().await;
    let script = platform.scratch().join("prepare.sh");
    std::fs::write(&script, "sleep 0.5; echo made > tool\n").unwrap();
    let script = script.to_str().unwrap();
    let prompt = command("test -e tool && echo found > seen", "Looked.");
    let ran = platform.done(&["run", "--yolo", "--name", "set", "--setup", script, &prompt]).await;
    assert_eq!(ran.stdout, "Looked.\n");
    let seen = platform.done(&["exec", "set", "--", "cat", "tool", "seen"]).await;
    assert_eq!(seen.stdout, "made\nfound\n");

    let failing =
        ["run", "--yolo", "--setup", "echo oops >&2; exit 3", &command("true", "Went on.")];
    let ran = platform.done(&failing).await;
    assert_eq!(ran.stdout, "Went on.\n");
    assert!(ran.stderr.contains("the setup script exited 3"), "{ran:?}");
    let missing = platform.run(&["start", "--setup", "./no-such.sh"]).await;
    assert_eq!(missing.code, Some(2), "{missing:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_sessions_than_there_may_be() {
    let flags = ["--max-sessions", "2"];
    let platform = Platform::start_with(crate::platform::Agent::Missing, &flags).await;
    platform.done(&["start", "--name", "one"]).await;
    platform.done(&["start", "--name", "two"]).await;
    for verb in [&["start"][..], &["fork", "one"]] {
        let refused = platform.run(verb).await;
        assert_eq!(refused.code, Some(6), "{verb:?}: {refused:?}");
        assert!(refused.stderr.contains("rclaude rm"), "{refused:?}");
    }
    platform.done(&["rm", "-f", "two"]).await;
    platform.done(&["start", "--name", "three"]).await;
    let names: Vec<_> = lines::<Session>(&platform.done(&["ls", "--json"]).await)
        .into_iter()
        .map(|session| session.name)
        .collect();
    assert_eq!(names, ["three", "one"]);
    platform.end().await;
}
