//! Keeping a session's states, going back to them, and making other sessions of them. The agent is
//! the real one: what it remembers is what its next request tells the model.

use std::time::{Duration, Instant};

use rclaude_types::{
    Checkpoint, CheckpointKind, EventBody, RewindScope, Session, Turn, TurnOutcome,
};
use serde_json::{Value, json};

use super::{command, lines, one};
use crate::platform::{PATIENCE, Platform};

/// A prompt that writes a word into a file of the workspace, and makes the word part of the
/// conversation.
fn write(word: &str) -> String {
    command(&format!("echo {word} > word; echo {word} >> words"), &format!("Wrote {word}."))
}

impl Platform {
    /// A session in which the agent wrote these words, one a turn; each turn's state is kept.
    async fn wrote(&self, name: &str, words: &[&str]) {
        self.done(&["start", "--name", name, "--yolo"]).await;
        for word in words {
            self.writes(name, word).await;
        }
    }

    /// One more turn, and its state.
    async fn writes(&self, name: &str, word: &str) {
        let before = self.kept(name).await.len();
        let said = self.done(&["send", name, &write(word)]).await;
        assert_eq!(said.stdout, format!("Wrote {word}.\n"));
        let started = Instant::now();
        while self.kept(name).await.len() == before {
            assert!(started.elapsed() < PATIENCE, "no checkpoint\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its checkpoints, newest first.
    async fn kept(&self, name: &str) -> Vec<Checkpoint> {
        lines(&self.done(&["checkpoints", name, "--json", "--all"]).await)
    }

    /// The words in its files.
    async fn words(&self, name: &str) -> String {
        self.done(&["exec", name, "--", "cat", "words"]).await.stdout.replace('\n', " ")
    }

    /// Which of these words the agent still knows of, as it tells the model with its next prompt.
    async fn knows<'a>(&self, name: &str, words: &[&'a str]) -> Vec<&'a str> {
        let mark = format!("mark{}", self.emulator.requests().len());
        self.done(&["send", name, &command("true", &mark)]).await;
        let requests = self.emulator.requests();
        let last = requests
            .iter()
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .rfind(|body| body.contains(&mark))
            .unwrap();
        words.iter().copied().filter(|word| last.contains(&format!("echo {word} >"))).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_back_before_its_last_turn_and_forward_again() {
    let platform = Platform::start().await;
    platform.wrote("back", &["apple", "banana"]).await;
    assert_eq!(platform.words("back").await, "apple banana ");

    let before: Checkpoint = one(&platform.done(&["rewind", "back", "--json"]).await);
    assert_eq!(before.kind, CheckpointKind::Rewind);
    assert_eq!(platform.words("back").await, "apple ");
    assert_eq!(platform.knows("back", &["apple", "banana"]).await, ["apple"]);
    platform.writes("back", "cherry").await;
    assert_eq!(platform.words("back").await, "apple cherry ");

    // The rewind itself is taken back: what came after it goes, what it took comes.
    let undone = platform.done(&["rewind", "back", "--to", before.id.as_str()]).await;
    assert!(undone.stderr.contains("undo: rclaude rewind back --to ckp_"), "{undone:?}");
    assert_eq!(platform.words("back").await, "apple banana ");
    let words = ["apple", "banana", "cherry"];
    assert_eq!(platform.knows("back", &words).await, ["apple", "banana"]);

    // And that again, by what the command line suggests.
    let suggested = undone.stderr.split("--to ").nth(1).unwrap().split_whitespace().next().unwrap();
    platform.done(&["rewind", "back", "--to", suggested]).await;
    assert_eq!(platform.words("back").await, "apple cherry ");
    assert_eq!(platform.knows("back", &words).await, ["apple", "cherry"]);

    let log = platform.done(&["logs", "back"]).await;
    assert_eq!(log.stderr.matches("files and conversation taken back to").count(), 3, "{log:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_turns_are_taken_back_at_once_and_all_of_them_too() {
    let platform = Platform::start().await;
    platform.wrote("turns", &["apple", "banana", "cherry"]).await;
    platform.done(&["rewind", "turns", "--turns", "2"]).await;
    assert_eq!(platform.words("turns").await, "apple ");
    // Turns that were taken back are not there to be taken back again.
    platform.writes("turns", "date").await;
    platform.done(&["rewind", "turns", "--turns", "2"]).await;
    let gone = platform.run(&["exec", "turns", "--", "cat", "words"]).await;
    assert_ne!(gone.code, Some(0), "{gone:?}");
    assert!(platform.knows("turns", &["apple", "banana", "cherry", "date"]).await.is_empty());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_of_a_session_that_was_rewound_is_taken_back_to_what_the_rewind_had_made() {
    let platform = Platform::start().await;
    platform.wrote("twice", &["apple", "banana"]).await;
    platform.done(&["rewind", "twice"]).await;
    platform.writes("twice", "cherry").await;
    platform.done(&["rewind", "twice"]).await;
    assert_eq!(platform.words("twice").await, "apple ");
    let words = ["apple", "banana", "cherry"];
    assert_eq!(platform.knows("twice", &words).await, ["apple"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_session_that_loses_its_machine_is_still_rewound() {
    let mut platform = Platform::start().await;
    platform.wrote("lost", &["apple", "banana"]).await;
    platform.done(&["rewind", "lost"]).await;
    assert_eq!(platform.words("lost").await, "apple ");
    platform.done(&["stop", "lost"]).await;
    let sandbox = platform.get("lost").await.sandbox;
    platform.kill();
    platform.end_supervisor();
    let disk = platform.data().join("engine/sandboxes").join(sandbox.as_str());
    std::fs::remove_dir_all(&disk).unwrap();
    platform.restart().await;
    platform.done(&["resume", "lost"]).await;
    assert_ne!(platform.get("lost").await.sandbox, sandbox);
    assert_eq!(platform.words("lost").await, "apple ");
    assert_eq!(platform.knows("lost", &["apple", "banana"]).await, ["apple"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewound_session_is_archived_as_it_is() {
    let platform = Platform::start().await;
    platform.wrote("away", &["apple", "banana"]).await;
    platform.done(&["rewind", "away"]).await;
    platform.done(&["pause", "--archive", "away"]).await;
    platform.done(&["resume", "away"]).await;
    assert_eq!(platform.words("away").await, "apple ");
    assert_eq!(platform.knows("away", &["apple", "banana"]).await, ["apple"]);
    // What lies in the snapshot store alone can be gone back to and forked all the same.
    platform.done(&["pause", "--archive", "away"]).await;
    let forked = platform.done(&["fork", "away"]).await;
    assert_eq!(platform.words(forked.stdout.trim()).await, "apple ");
    platform.done(&["rewind", "away", "--turns", "2"]).await;
    let gone = platform.run(&["exec", "away", "--", "cat", "words"]).await;
    assert_ne!(gone.code, Some(0), "{gone:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_under_way_is_taken_back_and_what_waited_behind_it_runs() {
    let platform = Platform::start().await;
    platform.wrote("busy", &["apple"]).await;
    let slow = command("echo banana > word; echo banana >> words; sleep 600", "Never.");
    let slow: Turn = one(&platform.done(&["send", "-d", "--json", "busy", &slow]).await);
    platform.done(&["exec", "busy", "--", "sh", "-c", "until grep banana words; do :; done"]).await;
    let forked = platform.done(&["fork", "busy"]).await;
    assert_eq!(platform.words(forked.stdout.trim()).await, "apple banana ");
    assert!(platform.turn("busy", slow.id.as_str()).await.outcome.is_none(), "it goes on");

    let behind: Turn =
        one(&platform.done(&["send", "-d", "--json", "busy", &write("cherry")]).await);
    platform.done(&["rewind", "busy"]).await;
    platform.ended("busy", slow.id.as_str()).await;
    let turn = platform.turn("busy", slow.id.as_str()).await;
    assert_eq!(turn.outcome, Some(TurnOutcome::Interrupted));
    platform.ended("busy", behind.id.as_str()).await;
    assert_eq!(platform.words("busy").await, "apple cherry ");
    let words = ["apple", "banana", "cherry"];
    assert_eq!(platform.knows("busy", &words).await, ["apple", "cherry"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_makes_its_forks_and_its_rewind_once() {
    let platform = Platform::start().await;
    platform.wrote("once", &["apple", "banana"]).await;
    let (url, token) = platform.access();
    let http = reqwest::Client::new();
    let post = async |path: &str, key: &str, body: Value| {
        let request = http.post(format!("{url}/v1/sessions/{path}")).bearer_auth(token);
        let answer = request.header("idempotency-key", key).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let fork = json!({ "count": 2, "name": "twin" });
    let first = post("once/fork", "key-1", fork.clone()).await;
    assert_eq!(first.0, 201, "{}", first.1);
    let again = post("once/fork", "key-1", fork).await;
    assert_eq!(again.0, 201, "{}", again.1);
    let ids = |answer: &Value| {
        answer["data"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first.1), ids(&again.1));
    let first = post("once/rewind", "key-2", json!({ "turns": 2 })).await;
    let again = post("once/rewind", "key-2", json!({ "turns": 2 })).await;
    assert_eq!((first.0, again.0), (200, 200), "{} {}", first.1, again.1);
    assert_eq!(first.1["id"], again.1["id"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_back_and_the_agent_remembers_all_that_was_said() {
    let platform = Platform::start().await;
    platform.wrote("files", &["apple", "banana"]).await;
    let ran = platform.done(&["rewind", "files", "--files"]).await;
    assert!(ran.stderr.contains("files of files taken back"), "{ran:?}");
    assert_eq!(platform.words("files").await, "apple ");
    assert_eq!(platform.knows("files", &["apple", "banana"]).await, ["apple", "banana"]);
    let scope = platform
        .event("files", |event| match &event.body {
            EventBody::Rewound { scope, .. } => Some(*scope),
            _ => None,
        })
        .await;
    assert_eq!(scope, RewindScope::Files);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conversation_goes_back_and_files_stay_as_they_are() {
    let platform = Platform::start().await;
    platform.wrote("talk", &["apple", "banana"]).await;
    platform.done(&["rewind", "talk", "--conversation"]).await;
    assert_eq!(platform.words("talk").await, "apple banana ");
    assert_eq!(platform.knows("talk", &["apple", "banana"]).await, ["apple"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_kept_by_hand_with_a_note_while_a_command_runs_and_found_by_its_beginning() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "hand", "--yolo"]).await;
    let script = "while :; do date +%N > ticks; sleep 0.01; done";
    let mut ticking = platform.cli(&["exec", "hand", "--", "sh", "-c", script]).spawn().unwrap();
    platform.done(&["exec", "hand", "--", "sh", "-c", "echo one > file"]).await;
    let kept = platform.done(&["checkpoint", "hand", "-m", "before the move"]).await;
    assert!(kept.stderr.contains("processes stood still for"), "{kept:?}");
    let id = kept.stdout.trim();
    platform.done(&["exec", "hand", "--", "sh", "-c", "echo two > file; mkdir dir"]).await;
    let other: Checkpoint = one(&platform.done(&["checkpoint", "hand", "--json"]).await);

    let list = platform.done(&["checkpoints", "hand"]).await.stdout;
    assert!(list.starts_with("CHECKPOINT") && list.contains("before the move"), "{list}");
    assert_eq!(platform.kept("hand").await.iter().filter(|it| it.id == other.id).count(), 1);
    let short = list.lines().find(|line| line.contains("before the move")).unwrap();
    let short = short.split_whitespace().next().unwrap();
    assert!(id.starts_with(short) && short.len() < id.len(), "{short} of {id}");
    let show = platform.done(&["show", "hand"]).await.stdout;
    assert!(show.contains(&format!("checkpoint  {}", &other.id.as_str()[..16])), "{show}");

    platform.done(&["rewind", "hand", "--to", short]).await;
    let file = platform
        .done(&["exec", "hand", "--", "sh", "-c", "cat file; ls -d dir 2>&1 || true"])
        .await;
    assert!(file.stdout.starts_with("one\n") && file.stdout.contains("No such"), "{file:?}");
    let ended = ticking.wait().unwrap();
    assert!(!ended.success(), "its sandbox was replaced under it");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_begin_with_the_present_state_and_go_their_own_ways() {
    let platform = Platform::start().await;
    platform.wrote("trunk", &["apple"]).await;
    let forked = platform.done(&["fork", "trunk", "-n", "3", "--name", "branch"]).await;
    assert_eq!(forked.stdout, "branch-1\nbranch-2\nbranch-3\n");
    for (name, word) in [("branch-1", "banana"), ("branch-2", "cherry")] {
        platform.writes(name, word).await;
    }
    platform.writes("trunk", "date").await;
    assert_eq!(platform.words("trunk").await, "apple date ");
    assert_eq!(platform.words("branch-1").await, "apple banana ");
    assert_eq!(platform.words("branch-2").await, "apple cherry ");
    assert_eq!(platform.words("branch-3").await, "apple ");
    let words = ["apple", "banana", "cherry", "date"];
    assert_eq!(platform.knows("branch-1", &words).await, ["apple", "banana"]);
    assert_eq!(platform.knows("branch-3", &words).await, ["apple"]);

    let trunk = platform.get("trunk").await;
    let child: Session = one(&platform.done(&["show", "branch-1", "--json"]).await);
    assert_eq!(child.origin.as_ref().unwrap().session, trunk.id);
    let log = platform.done(&["logs", "trunk"]).await.stderr;
    assert_eq!(log.matches("was forked off").count(), 3, "{log}");
    let log = platform.done(&["logs", "branch-1"]).await.stderr;
    assert!(log.contains("forked from ses_"), "{log}");

    // A fork outlives what it was forked from, and what it began with.
    platform.done(&["rm", "-f", "trunk"]).await;
    platform.done(&["stop", "branch-3"]).await;
    platform.done(&["resume", "branch-3"]).await;
    assert_eq!(platform.words("branch-3").await, "apple ");
    // Back to how it began.
    platform.done(&["rewind", "branch-2"]).await;
    assert_eq!(platform.words("branch-2").await, "apple ");
    assert_eq!(platform.knows("branch-2", &words).await, ["apple"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_with_a_prompt_is_followed_and_several_are_not() {
    let platform = Platform::start().await;
    platform.wrote("trunk", &["apple", "banana"]).await;
    let first = platform.kept("trunk").await.pop().unwrap();
    let prompt = write("cherry");
    let at = ["fork", "trunk", "--at", first.id.as_str(), "--prompt", &prompt, "--name", "past"];
    let followed = platform.done(&at).await;
    assert_eq!(followed.stdout, "Wrote cherry.\n");
    assert!(followed.stderr.contains("forked from trunk at ckp_"), "{followed:?}");
    assert!(followed.stderr.contains("turn completed"), "{followed:?}");
    assert_eq!(platform.words("past").await, "apple cherry ");
    let words = ["apple", "banana", "cherry"];
    assert_eq!(platform.knows("past", &words).await, ["apple", "cherry"]);

    let several = ["fork", "trunk", "-n", "2", "--prompt", &prompt, "--json"];
    let several: Vec<Session> = lines(&platform.done(&several).await);
    assert_eq!(several.len(), 2);
    for session in &several {
        let turn = platform.first_turn(session.id.as_str()).await;
        platform.ended(session.id.as_str(), &turn).await;
        assert_eq!(platform.words(&session.name).await, "apple banana cherry ");
    }
    assert_eq!(platform.words("trunk").await, "apple banana ");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_words_of_a_conversation_can_be_taken_back_alone() {
    let platform = Platform::start().await;
    platform.wrote("first", &["apple"]).await;
    platform.done(&["rewind", "first", "--conversation"]).await;
    assert_eq!(platform.words("first").await, "apple ");
    assert_eq!(platform.knows("first", &["apple"]).await, [""; 0]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_after_files_went_back_to_a_time_before_any_word_is_remembered() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "early", "--yolo"]).await;
    let kept: Checkpoint = one(&platform.done(&["checkpoint", "early", "--json"]).await);
    platform.done(&["rewind", "early", "--files", "--to", kept.id.as_str()]).await;
    platform.writes("early", "apple").await;
    platform.done(&["stop", "early"]).await;
    assert_eq!(platform.knows("early", &["apple"]).await, ["apple"]);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_rest_is_kept_rewound_and_forked_as_it_lies() {
    let platform = Platform::start().await;
    platform.wrote("rest", &["apple", "banana"]).await;
    for verb in [&["pause", "rest"][..], &["stop", "rest"]] {
        platform.done(verb).await;
        let kept: Checkpoint = one(&platform.done(&["checkpoint", "rest", "--json"]).await);
        assert_eq!(kept.kind, CheckpointKind::Manual);
        let forked = platform.done(&["fork", "rest"]).await;
        assert_eq!(platform.words(forked.stdout.trim()).await, "apple banana ");
        let still = platform.get("rest").await;
        assert_ne!(still.phase, rclaude_types::Phase::Running, "{verb:?}: it was not woken");
    }
    platform.done(&["rewind", "rest"]).await;
    assert_eq!(platform.words("rest").await, "apple ");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_cannot_be_gone_back_to() {
    let platform = Platform::start().await;
    platform.wrote("one", &["apple"]).await;
    platform.wrote("two", &["banana"]).await;
    let others = platform.kept("two").await.pop().unwrap().id;
    let nobody = "ckp_019a0000000070008000000000000009";
    let refusals: [(&[&str], i32); 14] = [
        (&["rewind", "one", "--to", nobody], 4),
        (&["rewind", "one", "--to", "ckp_ffff"], 4),
        (&["rewind", "one", "--to", "nonsense"], 4),
        (&["rewind", "one", "--to", others.as_str()], 4),
        (&["rewind", "one", "--turns", "2"], 2),
        (&["fork", "one", "--at", nobody], 4),
        (&["fork", "one", "--at", others.as_str()], 4),
        (&["fork", "one", "--name", "two"], 6),
        (&["fork", "one", "-n", "101"], 2),
        (&["checkpoint", "one", "-m", ""], 2),
        (&["checkpoints", "nobody"], 4),
        (&["rewind", "nobody"], 4),
        (&["pause", "nobody"], 4),
        (&["set", "one"], 2),
    ];
    for (verb, code) in refusals {
        let refused = platform.run(verb).await;
        assert_eq!(refused.code, Some(code), "{verb:?}: {refused:?}");
        assert_eq!(refused.stdout, "");
    }
    platform.writes("one", "cherry").await;
    let ambiguous = platform.run(&["rewind", "one", "--to", "ckp_0"]).await;
    assert_eq!(ambiguous.code, Some(6), "{ambiguous:?}");
    assert_eq!(platform.words("one").await, "apple cherry ", "nothing was taken back");

    platform.done(&["rm", "-f", "two"]).await;
    for verb in [&["resume", "two"][..], &["rewind", "two"], &["fork", "two"]] {
        assert_eq!(platform.run(verb).await.code, Some(4), "{verb:?}");
    }
    platform.end().await;
}
