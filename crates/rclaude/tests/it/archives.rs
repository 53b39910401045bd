//! Sessions leave a machine and come back, or go on at another server.

use std::fs;

use rclaude_types::{Event, EventBody, Phase};
use serde_json::{Value, json};

use crate::{
    backups::{becomes, doing, exec, goes_on, worked},
    platform::{Agent, Platform, repository},
};

async fn archive(platform: &Platform, id: &str) {
    let depth = json!({ "depth": "archive" });
    platform.ok("POST", &format!("/v1/sessions/{id}/pause"), Some(depth)).await;
    becomes(platform, id, |session| session.phase == Phase::Archived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_session_leaves_nothing_on_the_disk_and_wakes_as_it_was() {
    let platform = Platform::start().await;
    let repo = repository(&platform.scratch().join("repo"), &[("a.txt", "a\n")]);
    let request = json!({ "repository": { "url": repo } });
    let id = worked(&platform, request, "echo kept > b.txt; rm a.txt; ln b.txt c.txt").await;
    archive(&platform, &id).await;
    let sandboxes = fs::read_dir(platform.data().join("engine/sandboxes")).unwrap().count();
    assert_eq!(sandboxes, 0);
    goes_on(&platform, &id).await;
    let seen = exec(&platform, &id, "cat b.txt; ls; stat -c %h c.txt").await;
    assert_eq!(seen, "kept\nb.txt\nc.txt\n2\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_archives_and_wakes_loses_nothing() {
    let mut platform = Platform::start().await;
    let id = worked(
        &platform,
        json!({}),
        "for i in $(seq 30); do head -c 1M /dev/urandom > noise-$i; done; sha256sum noise-* > sums",
    )
    .await;
    for delay in [0, 20, 60, 120, 250, 400] {
        let depth = json!({ "depth": "archive" });
        platform.ok("POST", &format!("/v1/sessions/{id}/pause"), Some(depth)).await;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        platform.kill();
        platform.restart().await;
        becomes(&platform, &id, |session| session.phase == Phase::Archived).await;
        platform.ok("POST", &format!("/v1/sessions/{id}/resume"), None).await;
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        platform.kill();
        platform.restart().await;
        exec(&platform, &id, "sha256sum --quiet -c sums").await;
    }
    goes_on(&platform, &id).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_outlives_the_archiving_and_the_end_of_what_it_was_forked_from() {
    let platform = Platform::start().await;
    let id = worked(&platform, json!({}), "echo shared > b.txt").await;
    let forks = platform.ok("POST", &format!("/v1/sessions/{id}/fork"), Some(json!({}))).await;
    let fork = forks["data"][0]["id"].as_str().unwrap().to_owned();
    archive(&platform, &id).await;
    assert_eq!(exec(&platform, &fork, "cat b.txt; echo mine > c.txt").await, "shared\n");
    archive(&platform, &fork).await;
    platform.run(&["prune"]).await;
    assert_eq!(exec(&platform, &fork, "cat b.txt c.txt").await, "shared\nmine\n");
    archive(&platform, &fork).await;
    assert_eq!(platform.call("DELETE", &format!("/v1/sessions/{id}"), None).await.0, 204);
    let pruned = platform.run(&["prune", "--older-than", "1s"]).await;
    assert_eq!(pruned.code, Some(0), "{}", pruned.stderr);
    goes_on(&platform, &fork).await;
    assert_eq!(exec(&platform, &fork, "cat b.txt c.txt").await, "shared\nmine\n");
    platform.end().await;
}

/// The key that an export printed.
fn printed(key: &str) -> String {
    key.trim().strip_prefix("key: ").unwrap().to_owned()
}

fn without_times(events: &[Event]) -> Vec<Value> {
    let shown = |event: &Event| {
        let mut value = serde_json::to_value(event).unwrap();
        // Turns have other ids there.
        value.as_object_mut().unwrap().remove("turn");
        value
    };
    events.iter().map(shown).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_session_goes_on_at_another_server_that_knows_nothing_of_its_repository() {
    let here = Platform::start().await;
    let repo = repository(&here.scratch().join("repo"), &[("a.txt", "a\n"), ("d/e.txt", "e\n")]);
    let request =
        json!({ "name": "traveller", "repository": { "url": repo }, "env": { "X": "y" } });
    let id =
        worked(&here, request, "echo more >> a.txt; rm d/e.txt; git rm -q --cached d/e.txt").await;
    let seen = "cat a.txt; git status -s; git log --format=%s; git cat-file -t HEAD; echo $X";
    let before = exec(&here, &id, seen).await;
    let file = here.scratch().join("traveller.rca");
    let ran = here.run(&["export", "traveller", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, here.log());
    let key = printed(&ran.stdout);
    let history = here.events(&id).await;
    let turns = here.ok("GET", &format!("/v1/sessions/{id}/turns"), None).await;

    let there = Platform::start().await;
    let carried = there.scratch().join("carried");
    fs::copy(&file, &carried).unwrap();
    here.end().await;
    let ran = there.run(&["import", carried.to_str().unwrap(), "--key", &key]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, there.log());
    assert_eq!(ran.stdout.trim(), "traveller");
    assert_eq!(exec(&there, "traveller", seen).await, before);
    let session = there.get("traveller").await;
    assert_eq!(session.origin.unwrap().session.as_str(), id);
    let new = session.id.to_string();
    let log = there.events(&new).await;
    let carried = log.iter().take_while(
        |event| !matches!(&event.body, EventBody::Notice { code, .. } if code == "imported"),
    );
    let carried = without_times(&carried.cloned().collect::<Vec<_>>());
    let history = without_times(&history);
    assert!(carried.len() > 5 && history.starts_with(&carried), "{history:#?}\n{carried:#?}");
    let there_turns = there.ok("GET", &format!("/v1/sessions/{new}/turns"), None).await;
    let (old, new_turn) = (&turns["data"][0], &there_turns["data"][0]);
    for field in ["number", "text", "state", "outcome", "created_at", "ended_at"] {
        assert_eq!(old[field], new_turn[field], "{field}");
    }
    assert_ne!(old["id"], new_turn["id"]);
    goes_on(&there, &new).await;
    let diff = there.run(&["diff", &new]).await;
    assert!(diff.stdout.contains("+more"), "{}{}", diff.stdout, diff.stderr);

    // Back into the server it is at: under other names, with the same content.
    let again = there.scratch().join("again");
    let passphrase = there.scratch().join("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    let (again, passphrase) = (again.to_str().unwrap(), passphrase.to_str().unwrap());
    let ran = there.run(&["export", &new, again, "--passphrase-file", passphrase]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    let ran =
        there.run(&["import", again, "--passphrase-file", passphrase, "--name", "twin"]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, there.log());
    assert_eq!(exec(&there, "twin", seen).await, before);
    there.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_used_makes_nothing_and_leaves_nothing() {
    let platform = Platform::start_with(Agent::Real, &["--import-limit", "64M"]).await;
    let id = worked(&platform, json!({}), "echo kept > b.txt").await;
    let file = platform.scratch().join("archive");
    let ran = platform.run(&["export", &id, file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, platform.log());
    let key = printed(&ran.stdout);
    let sound = fs::read(&file).unwrap();
    let mut middle = sound.clone();
    let at = middle.len() / 2;
    middle[at] ^= 1;
    let mut newer = sound.clone();
    newer[16] = 99;
    let wrong = "0".repeat(64);
    let truncated = |length: usize| sound[..length].to_vec();
    let followed = [sound.as_slice(), b"more"].concat();
    let large = vec![0; 65 << 20];
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("empty", Vec::new(), &key, "archive_invalid"),
        ("no archive", b"PK\x03\x04 something else".to_vec(), &key, "archive_invalid"),
        ("its first bytes", truncated(10), &key, "archive_invalid"),
        ("half of it", truncated(sound.len() / 2), &key, "archive_invalid"),
        ("all but a byte", truncated(sound.len() - 1), &key, "archive_invalid"),
        ("tampered with", middle, &key, "archive_invalid"),
        ("followed by more", followed, &key, "archive_invalid"),
        ("newer", newer, &key, "archive_too_new"),
        ("wrong key", sound.clone(), &wrong, "wrong_key"),
        ("no key at all", sound.clone(), "nonsense", "wrong_key"),
        ("too large", large, &key, "too_large"),
    ];
    let before = layers(&platform);
    let (url, token) = platform.access();
    for (what, bytes, key, code) in cases {
        let answer = crate::platform::client()
            .post(format!("{url}/v1/imports"))
            .bearer_auth(token)
            .header("rclaude-archive-key", key)
            .body(bytes)
            .send()
            .await
            .unwrap();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], code, "{what}: {problem}");
    }
    let list = platform.ok("GET", "/v1/sessions", None).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "nothing was made");
    assert_eq!(layers(&platform), before, "no layer was left");
    let scratch = fs::read_dir(platform.data().join("scratch")).unwrap().count();
    assert_eq!(scratch, 0, "no scratch was left");
    let wrong = platform.run(&["import", file.to_str().unwrap(), "--key", &wrong]).await;
    assert_ne!(wrong.code, Some(0));
    let ran = platform.run(&["import", file.to_str().unwrap(), "--key", &key]).await;
    assert_eq!(ran.code, Some(0), "the file itself was fine: {}", ran.stderr);
    platform.end().await;
}

fn layers(platform: &Platform) -> usize {
    fs::read_dir(platform.data().join("engine/layers")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_imports_makes_the_session_once_or_not_at_all() {
    let mut platform = Platform::start().await;
    let id = worked(
        &platform,
        json!({}),
        "for i in $(seq 20); do head -c 1M /dev/urandom > noise-$i; done; sha256sum noise-* > sums",
    )
    .await;
    let file = platform.scratch().join("archive");
    let ran = platform.run(&["export", &id, file.to_str().unwrap()]).await;
    let key = printed(&ran.stdout);
    let bytes = fs::read(&file).unwrap();
    for (round, delay) in [5, 50, 120, 250, 400, 600].into_iter().enumerate() {
        let import = |platform: &Platform| {
            let (url, token) = platform.access();
            crate::platform::client()
                .post(format!("{url}/v1/imports?name=copy-{round}"))
                .bearer_auth(token)
                .header("rclaude-archive-key", &key)
                .header("idempotency-key", format!("import-{round}"))
                .body(bytes.clone())
                .send()
        };
        let first = tokio::spawn(import(&platform));
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        platform.kill();
        let _ = first.await;
        platform.restart().await;
        let answer = import(&platform).await.unwrap();
        assert_eq!(answer.status(), 201, "{}", platform.log());
        let list = platform.ok("GET", "/v1/sessions", None).await;
        let name = format!("copy-{round}");
        let named = list["data"].as_array().unwrap().iter().filter(|it| it["name"] == name);
        assert_eq!(named.count(), 1, "{list}");
        exec(&platform, &name, "sha256sum --quiet -c sums").await;
    }
    let turn = platform.send("copy-0", &doing("echo on > c.txt")).await;
    platform.ended("copy-0", &turn).await;
    platform.end().await;
}
