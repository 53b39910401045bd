//! Making, following, listing, stopping and removing sessions.

use std::fs;

use rclaude_types::{Event, Phase, Session, SessionStatus, Turn, TurnOutcome};
use serde_json::json;

use super::{command, followed, lines, one, outcome};
use crate::{
    platform::{Platform, git, repository, script},
    support::Ran,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_followed_asked_again_listed_shown_and_removed() {
    let platform = Platform::start().await;
    let repo = repository(&platform.scratch().join("shop"), &[("a.txt", "one\n")]);
    let prompt = command("echo two >> a.txt", "Written.");
    let run = ["run", "--repo", &repo, "--name", "shop", "--yolo", "--label", "team=core"];
    let ran =
        platform.done(&[&run[..], &["--cpu", "1.5", "--memory", "1G", &prompt]].concat()).await;
    assert_eq!(ran.stdout, "Written.\n", "data alone is on standard output");
    for said in ["session shop (ses_", "● ", "✔ turn completed · 1 file +1 −0", "rclaude diff shop"]
    {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("SCRIPT") && !ran.stderr.contains('\x1b'), "{}", ran.stderr);

    let shown: Session = one(&platform.done(&["show", "shop", "--json"]).await);
    assert_eq!((shown.resources.cpu_millis, shown.resources.memory_mib), (1_500, 1_024));
    assert_eq!((shown.labels["team"].as_str(), shown.status), ("core", SessionStatus::Idle));
    let id = shown.id.to_string();

    // By name, by id and by the unique beginning of an id.
    for reference in ["shop", &id, &id[..id.len() - 4]] {
        let text = platform.done(&["show", reference]).await.stdout;
        assert!(text.contains(&id) && text.contains("1.5 CPUs, 1024 MiB"), "{text}");
    }

    let hello = script(&json!([[{"text": "Hello."}]]));
    let ran = platform.done(&["send", "shop", &hello]).await;
    assert_eq!(ran.stdout, "Hello.\n");
    let (turn, events) =
        followed::<Turn>(&platform.done(&["send", "shop", &hello, "--json"]).await);
    assert_eq!((turn.number, outcome(&events)), (3, TurnOutcome::Completed));
    let detached = platform.done(&["send", "shop", &hello, "--detach"]).await;
    assert!(detached.stderr.contains("rclaude attach shop"), "{detached:?}");
    let queued: Turn = one(&platform.done(&["send", "-d", "shop", &hello, "--json"]).await);
    platform.ended(&id, queued.id.as_str()).await;

    let log = platform.done(&["logs", "shop"]).await;
    assert_eq!(log.stdout, "Written.\nHello.\nHello.\nHello.\nHello.\n");
    assert!(log.stderr.contains("session shop") && log.stderr.contains("turn completed"));
    let all: Vec<Event> = lines(&platform.done(&["logs", "shop", "--json"]).await);
    assert_eq!(all, platform.events(&id).await);
    let some: Vec<Event> = lines(&platform.done(&["logs", "shop", "--raw", "--after", "5"]).await);
    assert_eq!(some, all[5..]);

    let other = platform.done(&["start", "--name", "other"]).await;
    assert_eq!(other.stdout, "other\n");
    let list = platform.done(&["ls"]).await.stdout;
    assert!(list.starts_with("NAME") && list.contains("shop/") | list.contains("/shop"), "{list}");
    let named = |ran: &Ran| lines::<Session>(ran).into_iter().map(|s| s.name).collect::<Vec<_>>();
    assert_eq!(named(&platform.done(&["ls", "--json"]).await), ["other", "shop"]);
    assert_eq!(named(&platform.done(&["ls", "--json", "--label", "team=core"]).await), ["shop"]);
    assert_eq!(named(&platform.done(&["ls", "--json", "--label", "team=x"]).await), [""; 0]);

    let stopped = platform.done(&["stop", "shop", "other", "--json"]).await;
    assert_eq!(named(&stopped), ["shop", "other"]);
    assert!(lines::<Session>(&stopped).iter().all(|s| s.status == SessionStatus::Hibernated));
    assert!(platform.done(&["resume", "shop"]).await.stderr.contains("resumed shop"));
    let resumed: Session = one(&platform.done(&["resume", "other", "--json"]).await);
    assert_eq!(resumed.phase, Phase::Running);
    let text = platform.done(&["exec", "shop", "--", "cat", "a.txt"]).await.stdout;
    assert_eq!(text, "one\ntwo\n");

    let idle = platform.done(&["interrupt", "shop"]).await;
    assert!(idle.stderr.contains("nothing"), "{idle:?}");
    let idle: Session = one(&platform.done(&["interrupt", "shop", "--json"]).await);
    assert_eq!(idle.name, "shop");

    assert_eq!(platform.done(&["rm", "-f", "other", "--json"]).await.stdout, "");
    assert!(platform.done(&["rm", "--force", "shop"]).await.stderr.contains("removed shop"));
    assert_eq!(platform.run(&["show", "shop"]).await.code, Some(4));
    assert_eq!(platform.done(&["ls"]).await.stdout, "");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_begins_with_whatever_git_has() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("repo");
    let repo = repository(&dir, &[("a.txt", "main\n"), ("src/b.txt", "b\n")]);
    git(&dir, &["tag", "v1"]);
    git(&dir, &["checkout", "-q", "-b", "topic"]);
    fs::write(dir.join("a.txt"), "topic\n").unwrap();
    git(&dir, &["commit", "-qam", "second"]);
    git(&dir, &["checkout", "-q", "main"]);
    fs::write(dir.join("new.txt"), "not committed\n").unwrap();
    let url = format!("file://{repo}");
    let inner = dir.join("src");
    let inner = inner.to_str().unwrap();
    let cases: [(&[&str], &str); 7] = [
        (&["--repo", &repo], "main\n"),
        (&["--repo", &url], "main\n"),
        (&["--repo", inner], "main\n"),
        (&["--repo", &repo, "--branch", "topic"], "topic\n"),
        (&["--repo", &url, "--branch", "v1"], "main\n"),
        (&["--repo", &repo, "--include-uncommitted"], "main\nnot committed\n"),
        (&["--repo", &repo, "--no-include-uncommitted"], "main\n"),
    ];
    for (flags, content) in cases {
        let made = platform.done(&[&["start", "--json"][..], flags].concat()).await;
        let session: Session = one(&made);
        let cat = ["exec", &session.name, "--", "sh", "-c", "cat a.txt; cat new.txt 2>/dev/null"];
        assert_eq!(platform.run(&cat).await.stdout, content, "{flags:?}");
        assert_eq!(platform.run(&["diff", &session.name, "--stat"]).await.code, Some(0));
    }
    let warned = platform.done(&["start", "--repo", &repo]).await;
    assert!(warned.stderr.contains("--include-uncommitted brings them along"), "{warned:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_may_come_from_standard_input_and_a_session_from_settings() {
    let platform = Platform::start().await;
    platform.done(&["config", "set", "permission_mode", "bypassPermissions"]).await;
    let prompt = script(&json!([[{"text": "Heard."}]]));
    let run = ["run", "--name", "piped", "--json", "-"];
    let (code, out, stderr) = platform.feed(&run, prompt.clone().into_bytes()).await;
    let ran = Ran { code, stdout: String::from_utf8(out).unwrap(), stderr };
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (session, events) = followed::<Session>(&ran);
    assert_eq!(session.permission_mode, rclaude_types::PermissionMode::BypassPermissions);
    assert_eq!((events[0].seq, outcome(&events)), (1, TurnOutcome::Completed));
    let (code, out, _) = platform.feed(&["send", "piped", "-"], prompt.clone().into_bytes()).await;
    assert_eq!((code, out.as_slice()), (Some(0), &b"Heard.\n"[..]));

    let detached = platform.done(&["run", "--detach", "-e", "COLOUR=red", &prompt]).await;
    let name = detached.stdout.trim();
    assert!(detached.stderr.contains(&format!("rclaude attach {name}")), "{detached:?}");
    let colour = platform.done(&["exec", name, "--", "printenv", "COLOUR"]).await;
    assert_eq!(colour.stdout, "red\n");
    let session: Session = one(&platform.done(&["run", "-d", "--json", &prompt]).await);
    assert!(session.last_seq > 0);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_session_is_stopped_by_its_name_and_wakes_for_a_command() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "nap"]).await;
    platform.done(&["stop", "nap"]).await;
    platform
        .until("it is set aside", || {
            let ran = Ran::from(platform.cli(&["show", "nap", "--json"]).output().unwrap());
            (one::<Session>(&ran).phase == Phase::Hibernated).then_some(())
        })
        .await;
    assert_eq!(platform.done(&["exec", "nap", "--", "echo", "awake"]).await.stdout, "awake\n");
    platform.end().await;
}
