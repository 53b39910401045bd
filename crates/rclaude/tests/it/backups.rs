//! A machine is lost, and another goes on from its backup. Everything may die on the way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rclaude_types::{Event, EventBody, Session};
use serde_json::{Value, json};

use crate::{
    platform::{Agent, PATIENCE, Platform, repository, script},
    support::Ran,
};

/// A Bash tool use.
fn bash(command: &str) -> Value {
    json!({ "tool": "Bash", "input": { "command": command } })
}

/// A prompt that has the agent run a command and then say `done`.
pub(crate) fn doing(command: &str) -> String {
    script(&json!([[bash(command)], [{ "text": "done" }]]))
}

/// A session in which the agent has run a command to its end, and whose state has been kept since.
pub(crate) async fn worked(platform: &Platform, mut request: Value, command: &str) -> String {
    request["prompt"] = json!({ "text": doing(command) });
    let id = platform.session(request).await;
    let turn = platform.first_turn(&id).await;
    platform.ended(&id, &turn).await;
    kept(platform, &id).await;
    id
}

/// Waits until the session has a checkpoint.
pub(crate) async fn kept(platform: &Platform, id: &str) {
    let made =
        |event: &Event| matches!(event.body, EventBody::CheckpointCreated { .. }).then_some(());
    platform.event(id, made).await;
}

/// What a command prints that is run in the session from outside.
pub(crate) async fn exec(platform: &Platform, id: &str, command: &str) -> String {
    let ran = platform.run(&["exec", id, "--", "bash", "-c", command]).await;
    assert_eq!(ran.code, Some(0), "{command}: {}\n{}", ran.stderr, platform.log());
    ran.stdout
}

/// Waits until a session is as it should be.
pub(crate) async fn becomes(platform: &Platform, id: &str, wanted: impl Fn(&Session) -> bool) {
    let started = Instant::now();
    loop {
        let session = platform.get(id).await;
        if wanted(&session) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{session:#?}\n{}", platform.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The agent answers, and knows what was said before.
pub(crate) async fn goes_on(platform: &Platform, id: &str) {
    let before = platform.events(id).await.len();
    let turn = platform.send(id, &script(&json!([[{ "text": "still here" }]]))).await;
    let ended = platform.ended(id, &turn).await;
    assert!(
        matches!(
            ended,
            EventBody::TurnEnded { outcome: rclaude_types::TurnOutcome::Completed, .. }
        ),
        "{ended:?}\n{}",
        platform.log()
    );
    let events = platform.events(id).await;
    // Where it runs still it is not started at all.
    let anew = events[before..]
        .iter()
        .any(|event| matches!(event.body, EventBody::AgentStarted { resumed: false, .. }));
    assert!(!anew, "the agent began anew: {:#?}", &events[before..]);
}

/// `rclaude restore` into `data` in a home directory.
fn restore(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rclaude"));
    command
        .arg("restore")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home)
        .env("RCLAUDE_DATA_DIR", home.join("data"))
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Ran {
    Ran::from(command.output().unwrap())
}

/// A server on another data directory, made of a backup with the lost server's keyring.
async fn restored(place: &Path, keyring: &Path, more: &[&str]) -> Platform {
    let (place, keyring) = (place.to_str().unwrap(), keyring.to_str().unwrap());
    Platform::start_on(Agent::Real, &[], &[], |home| {
        let ran = run(restore(home, &[&[place, "--key-file", keyring], more].concat()));
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    })
    .await
}

async fn backed_up(platform: &Platform, place: &Path) -> String {
    let ran = platform.run(&["backup", place.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, platform.log());
    ran.stdout.trim().to_owned()
}

async fn verified(platform: &Platform, place: &Path) -> Ran {
    platform.run(&["backup", "verify", "--at", place.to_str().unwrap()]).await
}

/// A place for backups that outlives a platform, with a copy of its keyring.
struct Elsewhere {
    dir: tempfile::TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    fn keyring(&self, of: &Platform) -> PathBuf {
        let copy = self.dir.path().join("keyring");
        fs::copy(of.data().join("keyring"), &copy).unwrap();
        copy
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_of_a_lost_machine_comes_back_with_its_files_conversation_and_history() {
    let elsewhere = Elsewhere::new();
    let lost = Platform::start().await;
    let repo = repository(&lost.scratch().join("repo"), &[("a.txt", "a\n")]);
    let in_repo = json!({ "repository": { "url": repo } });
    let running = worked(&lost, in_repo.clone(), "echo running > b.txt").await;
    let hibernated = worked(&lost, in_repo.clone(), "echo hibernated > b.txt; rm a.txt").await;
    let frozen = worked(
        &lost,
        json!({}),
        "echo frozen > /workspace/b.txt; ln -s b.txt /workspace/l; touch -d @7 /workspace/l b.txt",
    )
    .await;
    let archived = worked(&lost, json!({}), "echo archived > ~/b.txt").await;
    // Nothing has been kept of it yet.
    let fresh = lost.session(in_repo).await;
    for (id, depth) in [(&hibernated, "hibernate"), (&frozen, "freeze"), (&archived, "archive")] {
        lost.ok("POST", &format!("/v1/sessions/{id}/pause"), Some(json!({ "depth": depth }))).await;
    }
    becomes(&lost, &archived, |it| it.phase == rclaude_types::Phase::Archived).await;
    becomes(&lost, &hibernated, |it| it.phase == rclaude_types::Phase::Hibernated).await;
    becomes(&lost, &frozen, |it| it.phase == rclaude_types::Phase::Paused).await;
    becomes(&lost, &fresh, |it| it.phase == rclaude_types::Phase::Running).await;
    let name = backed_up(&lost, &elsewhere.place()).await;
    let listed = lost.run(&["backup", "ls", elsewhere.place().to_str().unwrap()]).await;
    assert!(listed.stdout.contains(&name), "{}", listed.stdout);
    let verdict = verified(&lost, &elsewhere.place()).await;
    assert_eq!(verdict.code, Some(0), "{}{}", verdict.stdout, verdict.stderr);
    let all = [&running, &hibernated, &frozen, &archived, &fresh];
    let mut logs = Vec::new();
    for id in all {
        logs.push(lost.events(id).await);
    }
    let keyring = elsewhere.keyring(&lost);
    drop(lost);

    let started = Instant::now();
    let found = restored(&elsewhere.place(), &keyring, &[]).await;
    eprintln!("restored and up after {:?}", started.elapsed());
    for (id, before) in all.into_iter().zip(&logs) {
        let after = found.events(id).await;
        let common = before.len().min(after.len());
        // The backup was made before the last word was written.
        let shared = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
        assert!(shared + 3 >= common, "{before:#?}\n{after:#?}");
    }
    assert_eq!(
        exec(&found, &running, "cat a.txt b.txt; git status -s").await,
        "a\nrunning\n?? b.txt\n"
    );
    assert_eq!(exec(&found, &hibernated, "cat b.txt; ls").await, "hibernated\nb.txt\n");
    assert_eq!(exec(&found, &frozen, "cat l; stat -c %Y b.txt").await, "frozen\n7\n");
    assert_eq!(exec(&found, &archived, "cat ~/b.txt").await, "archived\n");
    assert_eq!(exec(&found, &fresh, "cat a.txt; git log --oneline | wc -l").await, "a\n1\n");
    for id in [&running, &hibernated, &frozen, &archived] {
        goes_on(&found, id).await;
    }
    for id in [&running, &fresh] {
        let said = |event: &Event| match &event.body {
            EventBody::Notice { code, message, .. } if code == "sandbox_replaced" => {
                Some(message.clone())
            }
            _ => None,
        };
        let said = found.event(id, said).await;
        let from = if *id == fresh { "no checkpoint" } else { "starts from checkpoint" };
        assert!(said.contains(from), "{said}");
    }
    found.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_may_leave_files_where_they_are_until_their_session_needs_them() {
    let elsewhere = Elsewhere::new();
    let lost = Platform::start().await;
    let id = worked(&lost, json!({}), "echo kept > b.txt").await;
    backed_up(&lost, &elsewhere.place()).await;
    let keyring = elsewhere.keyring(&lost);
    drop(lost);
    let found = restored(&elsewhere.place(), &keyring, &["--lazy"]).await;
    assert_eq!(exec(&found, &id, "cat b.txt").await, "kept\n");
    goes_on(&found, &id).await;
    found.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_directory_is_restored_into_and_only_with_the_right_key() {
    let elsewhere = Elsewhere::new();
    let platform = Platform::start().await;
    backed_up(&platform, &elsewhere.place()).await;
    let keyring = elsewhere.keyring(&platform);
    let (place, right) = (elsewhere.place(), keyring.to_str().unwrap());
    let place = place.to_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let wrong = home.path().join("wrong");
    fs::write(&wrong, [7; 32]).unwrap();
    let wrong = wrong.to_str().unwrap();
    let refused = |arguments: &[&str], why: &str| {
        let ran = run(restore(home.path(), arguments));
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        assert!(ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
    };
    refused(&[place, "--key-file", wrong], "does not open");
    refused(&["/nowhere/at/all", "--key-file", right], "no vault");
    refused(&[place, "--key-file", right, "--backup", "20200101T000000"], "no backup");
    refused(&[place], "say what opens");
    assert!(!data.exists(), "nothing was begun");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("mine"), "precious").unwrap();
    refused(&[place, "--key-file", right], "not empty");
    let left: Vec<_> =
        fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["mine"], "nothing was changed");
    let key = platform.run(&["backup", "key"]).await;
    fs::write(home.path().join("written"), &key.stdout).unwrap();
    fs::remove_file(data.join("mine")).unwrap();
    let written = home.path().join("written");
    let ran = run(restore(home.path(), &[place, "--key-file", written.to_str().unwrap()]));
    assert_eq!(ran.code, Some(0), "as printed by `backup key`: {}", ran.stderr);
    refused(&[place, "--key-file", right], "not empty");
    for secret in ["token", "secret", "keyring"] {
        let read = |dir: &Path| fs::read(dir.join(secret)).unwrap();
        assert_eq!(read(&data), read(&platform.data()), "{secret}");
    }
    platform.end().await;
}

/// Delays up to so many milliseconds, always the same ones.
fn delays(seed: u64, count: usize, most: u64) -> Vec<Duration> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((state >> 33) % most)
    };
    (0..count).map(|_| next()).collect()
}

/// Has the agent make so many files of content that compresses badly.
fn noise(files: u32, kilobytes: u32) -> String {
    format!(
        "for i in $(seq {files}); do head -c {kilobytes}k /dev/urandom > /workspace/noise-$i; done; \
         sha256sum /workspace/noise-* > /workspace/sums"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_makes_backups_loses_nothing_and_the_next_backup_is_whole() {
    let elsewhere = Elsewhere::new();
    let mut platform = Platform::start().await;
    let id = worked(&platform, json!({}), &noise(40, 1024)).await;
    for delay in delays(7, 8, 900) {
        let place = elsewhere.place();
        let mut command = platform.cli(&["backup", place.to_str().unwrap()]);
        let mut making: Child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(delay).await;
        platform.kill();
        let _ = making.kill();
        let _ = making.wait();
        platform.restart().await;
        goes_on(&platform, &id).await;
    }
    backed_up(&platform, &elsewhere.place()).await;
    let verdict = verified(&platform, &elsewhere.place()).await;
    assert_eq!(verdict.code, Some(0), "{}{}", verdict.stdout, verdict.stderr);
    let keyring = elsewhere.keyring(&platform);
    drop(platform);
    let found = restored(&elsewhere.place(), &keyring, &[]).await;
    exec(&found, &id, "sha256sum --quiet -c sums").await;
    goes_on(&found, &id).await;
    let scratch = fs::read_dir(found.data().join("scratch"));
    assert_eq!(scratch.map_or(0, Iterator::count), 0, "nothing is left lying about");
    found.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_goes_on_when_it_is_run_again_and_no_server_starts_meanwhile() {
    let elsewhere = Elsewhere::new();
    let lost = Platform::start().await;
    let repo = repository(&lost.scratch().join("repo"), &[("a.txt", "a\n")]);
    let id = worked(&lost, json!({ "repository": { "url": repo } }), &noise(40, 1024)).await;
    backed_up(&lost, &elsewhere.place()).await;
    let keyring = elsewhere.keyring(&lost);
    drop(lost);
    let place = elsewhere.place();
    let arguments = [place.to_str().unwrap(), "--key-file", keyring.to_str().unwrap()];
    let found = Platform::start_on(Agent::Real, &[], &[], |home| {
        let mut interrupted = 0;
        for delay in delays(11, 10, 700) {
            let mut command = restore(home, &arguments);
            let mut restoring =
                command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(delay);
            let _ = restoring.kill();
            restoring.wait().unwrap();
            if !home.join("data/restoring").exists() {
                continue;
            }
            interrupted += 1;
            let mut serve = Command::new(env!("CARGO_BIN_EXE_rclaude"));
            serve.args(["serve", "--emulator", "--listen", "127.0.0.1:0"]).env_clear();
            serve.env("HOME", home).env("RCLAUDE_DATA_DIR", home.join("data"));
            let refused = run(serve);
            assert!(refused.stderr.contains("rclaude restore"), "{}", refused.stderr);
            let other = run(restore(home, &[&arguments[..], &["--backup", "another"]].concat()));
            assert!(other.stderr.contains("was begun"), "{}", other.stderr);
        }
        eprintln!("interrupted {interrupted} times");
        if !home.join("data/rclaude.db").exists() {
            let ran = run(restore(home, &arguments));
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        }
    })
    .await;
    exec(&found, &id, "sha256sum --quiet -c sums; cat a.txt").await;
    goes_on(&found, &id).await;
    found.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_in_a_backup_is_found_and_named() {
    let elsewhere = Elsewhere::new();
    let mut platform = Platform::start().await;
    worked(&platform, json!({}), &noise(4, 512)).await;
    backed_up(&platform, &elsewhere.place()).await;
    // A byte of the largest pack.
    let mut packs = Vec::new();
    let mut todo = vec![elsewhere.place().join("data")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { todo.push(path) } else { packs.push(path) }
        }
    }
    let pack = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let sound = fs::read(pack).unwrap();
    let mut broken = sound.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    let unlocked = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(pack, unlocked).unwrap();
    fs::write(pack, &broken).unwrap();
    let verdict = verified(&platform, &elsewhere.place()).await;
    assert_eq!(verdict.code, Some(1), "{}{}", verdict.stdout, verdict.stderr);
    assert!(verdict.stdout.contains("layer lay_"), "{}", verdict.stdout);
    fs::remove_file(pack).unwrap();
    let verdict = verified(&platform, &elsewhere.place()).await;
    assert_eq!(verdict.code, Some(1), "{}{}", verdict.stdout, verdict.stderr);
    fs::write(pack, &sound).unwrap();
    assert_eq!(verified(&platform, &elsewhere.place()).await.code, Some(0));

    // What the database says of a layer is not what the store holds.
    let own = platform.run(&["backup"]).await;
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    platform.kill();
    let edit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                c.execute('UPDATE layer SET digest = ?', ('0' * 64,)); c.commit()";
    let database = platform.data().join("rclaude.db");
    let edited = Command::new("python3").args(["-c", edit]).arg(database).status().unwrap();
    assert!(edited.success());
    platform.restart().await;
    assert_eq!(platform.run(&["backup"]).await.code, Some(0));
    let verdict = platform.run(&["backup", "verify"]).await;
    assert_eq!(verdict.code, Some(1), "{}{}", verdict.stdout, verdict.stderr);
    assert!(verdict.stdout.contains("came back with digest"), "{}", verdict.stdout);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_prune_says_what_the_run_then_does() {
    let platform = Platform::start().await;
    let id = worked(&platform, json!({}), "echo one > b.txt").await;
    for number in 2..5 {
        let turn = platform.send(&id, &doing(&format!("echo {number} > b.txt"))).await;
        platform.ended(&id, &turn).await;
    }
    let checkpoints = async || {
        let made = |event: &Event| matches!(event.body, EventBody::CheckpointCreated { .. });
        platform.events(&id).await.iter().filter(|event| made(event)).count()
    };
    let started = Instant::now();
    while checkpoints().await < 4 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(platform.run(&["backup"]).await.code, Some(0));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let prune = async |arguments: &[&str]| -> Value {
        let all = [&["--json", "prune", "--older-than", "1s"], arguments].concat();
        let ran = platform.run(&all).await;
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, platform.log());
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let mut would = prune(&["--dry-run"]).await;
    assert_eq!(would["checkpoints"], 3, "the newest stays: {would}");
    assert_eq!(prune(&["--dry-run"]).await, would, "nothing was dropped");
    let did = prune(&[]).await;
    would["dry_run"] = json!(false);
    assert_eq!(did, would);
    assert_eq!(prune(&[]).await["checkpoints"], 0);
    let used = platform.run(&["--json", "du"]).await;
    let used: Value = serde_json::from_str(&used.stdout).unwrap();
    assert_eq!(used["sessions"][0]["checkpoint_count"], 1, "{used}");
    assert!(used["snapshots"].as_u64().unwrap() > 0 && used["free"].as_u64().unwrap() > 0);
    assert_eq!(exec(&platform, &id, "cat b.txt").await, "4\n");
    goes_on(&platform, &id).await;
    assert_eq!(platform.run(&["backup", "verify"]).await.code, Some(0));
    platform.end().await;
}
