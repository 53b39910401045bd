//! Every verb as its users type it, against a whole platform: for people, and with `--json` for
//! programs. What `--json` prints is read as the types that document it.

use std::{fs, io::Write, process::Stdio};

use rclaude_types::{
    ApiKey, Approval, ApprovalState, CreatedKey, Event, EventBody, ExecFrame, HostCheck, Phase,
    ServerStatus, Session, SessionDiff, SessionStatus, Turn, TurnOutcome,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    platform::{Platform, git, repository, script},
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
    async fn done(&self, arguments: &[&str]) -> Ran {
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
    assert!(lines::<Session>(&stopped).iter().all(|s| s.status == SessionStatus::Paused));
    assert!(platform.done(&["resume", "shop"]).await.stderr.contains("resumed shop"));
    let resumed: Session = one(&platform.done(&["resume", "other", "--json"]).await);
    assert_ne!(resumed.status, SessionStatus::Paused);
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
async fn a_command_runs_as_if_it_ran_here() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box", "-e", "FROM=session"]).await;
    platform.done(&["start", "--name", "rooted", "--allow-root"]).await;
    let sh = |text: &'static str| ["exec", "box", "--", "sh", "-c", text];
    let both = platform.run(&sh("echo out; echo err >&2; exit 7")).await;
    assert_eq!((both.code, &*both.stdout, &*both.stderr), (Some(7), "out\n", "err\n"));
    assert_eq!(platform.run(&sh("kill -KILL $$")).await.code, Some(137));
    assert_eq!(platform.run(&sh("kill -TERM $$")).await.code, Some(143));

    let placed =
        ["exec", "--cwd", "/tmp", "-e", "A=b c", "box", "--", "sh", "-c", "pwd; echo $A $FROM"];
    assert_eq!(platform.run(&placed).await.stdout, "/tmp\nb c session\n");
    assert_eq!(platform.run(&sh("pwd; id -un")).await.stdout, "/workspace\nagent\n");
    let slow = platform.run(&["exec", "--timeout", "1s", "box", "--", "sleep", "60"]).await;
    assert_eq!(slow.code, Some(143));
    assert!(slow.stderr.contains("took longer than 1s"), "{slow:?}");

    // Bytes as they are, both ways, and more of them than any buffer holds.
    let mut input = vec![0_u8; 5 << 20];
    for (place, byte) in input.iter_mut().enumerate() {
        *byte = u8::try_from((place * 7 + place / 251) % 256).unwrap();
    }
    let (code, out, stderr) = platform.feed(&["exec", "box", "--", "cat"], input.clone()).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(out == input, "{} of {} bytes came back", out.len(), input.len());
    let (code, out, _) = platform.feed(&["exec", "-n", "box", "--", "cat"], input.clone()).await;
    assert_eq!((code, out.len()), (Some(0), 0), "-n passes nothing on");
    let (code, out, _) = platform.feed(&["exec", "box", "--", "head", "-c", "3"], input).await;
    assert_eq!((code, out.len()), (Some(0), 3), "a command need not read it all");

    let frames: Vec<ExecFrame> =
        lines(&platform.run(&["exec", "--json", "box", "--", "echo", "x"]).await);
    assert!(matches!(frames.first(), Some(ExecFrame::Started { .. })), "{frames:?}");
    assert!(matches!(frames.last(), Some(ExecFrame::Exited { code: Some(0), .. })), "{frames:?}");

    let root = platform.run(&["exec", "--root", "rooted", "--", "id", "-u"]).await;
    assert_eq!((root.code, &*root.stdout), (Some(0), "0\n"), "{root:?}");
    let refused = platform.run(&["exec", "--root", "box", "--", "id", "-u"]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(5), ""));
    assert!(refused.stderr.contains("--allow-root"), "{refused:?}");
    let nothing = platform.run(&["exec", "box", "--", "no-such-program"]).await;
    assert_eq!((nothing.code, &*nothing.stdout), (Some(4), ""));
    assert!(nothing.stderr.contains("no-such-program"), "{nothing:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_shown_while_the_command_runs() {
    let platform = Platform::start().await;
    platform.done(&["start", "--name", "box"]).await;
    let text = "echo begun; read line; echo got $line";
    let mut command = platform.cli(&["exec", "box", "--", "sh", "-c", text]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let talk = move || {
        use std::io::{BufRead, BufReader, Read};
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        child.stdin.take().unwrap().write_all(b"word\n").unwrap();
        line.clear();
        out.read_to_string(&mut line).unwrap();
        assert_eq!(line, "got word\n");
        assert!(child.wait().unwrap().success());
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diff_is_for_reading_for_counting_and_for_git() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("repo");
    let repo = repository(&dir, &[("a.txt", "one\n"), ("gone.txt", "gone\n")]);
    platform.done(&["start", "--name", "fix", "--repo", &repo]).await;
    platform.done(&["start", "--name", "bare"]).await;
    let none = platform.done(&["diff", "fix"]).await;
    assert_eq!(none.stdout, "", "{none:?}");
    assert!(none.stderr.contains("no changes"), "{none:?}");
    let bare = platform.done(&["diff", "bare"]).await;
    assert!(bare.stderr.contains("no repository"), "{bare:?}");

    let change = "echo two >> a.txt; rm gone.txt; head -c 5000 /dev/urandom > random.bin; \
                  printf 'caf\\351\\n' > latin1.txt; mkdir d; echo deep > 'd/with space.txt'";
    platform.done(&["exec", "fix", "--", "sh", "-c", change]).await;
    let stat = platform.done(&["diff", "fix", "--stat"]).await.stdout;
    assert!(stat.contains(" random.bin       | bin") && stat.contains("5 files changed"), "{stat}");
    let full: SessionDiff = one(&platform.done(&["diff", "fix", "--json"]).await);
    assert_eq!(full.stat.files.len(), 5);
    assert!(full.patch.is_none() && full.patch_base64.is_some(), "it is not all UTF-8");
    let counts: SessionDiff = one(&platform.done(&["diff", "fix", "--stat", "--json"]).await);
    assert_eq!((counts.stat, counts.patch_base64), (full.stat, None));

    let (code, patch, _) = platform.feed(&["diff", "fix", "--patch"], Vec::new()).await;
    assert_eq!(code, Some(0));
    assert_eq!(platform.feed(&["diff", "fix"], Vec::new()).await.1, patch);
    fs::write(platform.scratch().join("patch"), patch).unwrap();
    git(&dir, &["apply", "../patch"]);
    for file in ["a.txt", "random.bin", "latin1.txt", "d/with space.txt"] {
        let (_, inside, _) = platform.feed(&["exec", "fix", "--", "cat", file], Vec::new()).await;
        assert!(fs::read(dir.join(file)).unwrap() == inside, "{file} differs");
    }
    assert!(!dir.join("gone.txt").exists());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_asks_is_answered_from_another_terminal() {
    let platform = Platform::start().await;
    let ask = |file: &str| command(&format!("touch /workspace/{file} && echo did {file}"), "Over.");
    let asked = |number: usize| {
        let platform = &platform;
        async move {
            loop {
                let session: Session = one(&platform.done(&["show", "asks", "--json"]).await);
                if session.pending_approvals.len() == number {
                    return session.pending_approvals;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    };
    let waits = platform.done(&["run", "--detach", "--name", "asks", &ask("one")]).await;
    assert_eq!(waits.stdout, "asks\n");
    let pending = asked(1).await;
    let shown = platform.done(&["show", "asks"]).await.stdout;
    let id = pending[0].id.to_string();
    for said in
        ["awaiting input", "waits for", &format!("rclaude approve asks {id}"), "rclaude deny"]
    {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(platform.done(&["approve", "asks"]).await.stderr.contains("allowed: "));
    // The same answer again is as good as the first; another comes too late.
    platform.done(&["approve", "asks", &id]).await;
    let late = platform.run(&["deny", "asks", &id]).await;
    assert_eq!(late.code, Some(6), "{late:?}");
    platform.ended("asks", &platform.first_turn("asks").await).await;
    let nothing = platform.run(&["deny", "asks"]).await;
    assert_eq!(nothing.code, Some(4), "{nothing:?}");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("two")]).await);
    asked(1).await;
    let message = "leave that file alone";
    let denied = ["deny", "asks", "--message", message, "--json"];
    let denied: Approval = one(&platform.done(&denied).await);
    assert_eq!(denied.state, ApprovalState::Denied);
    platform.ended("asks", turn.id.as_str()).await;
    let log = platform.done(&["logs", "asks"]).await;
    assert!(log.stderr.contains(message), "{log:?}");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("three")]).await);
    let id = asked(1).await[0].id.to_string();
    let allowed = ["approve", "asks", &id, "--always", "--json"];
    let allowed: Approval = one(&platform.done(&allowed).await);
    assert_eq!(allowed.state, ApprovalState::Allowed);
    platform.ended("asks", turn.id.as_str()).await;
    let files = platform.done(&["exec", "asks", "--", "ls", "/workspace"]).await.stdout;
    assert_eq!(files, "one\nthree\n");

    let turn: Turn = one(&platform.done(&["send", "-d", "--json", "asks", &ask("four")]).await);
    // "Always" may have covered this one; where it asks, a no can end the turn as well.
    let ended = loop {
        let session = platform.get("asks").await;
        if !session.pending_approvals.is_empty() {
            platform.done(&["deny", "asks", "--interrupt"]).await;
            break platform.ended("asks", turn.id.as_str()).await;
        }
        if platform.turn("asks", turn.id.as_str()).await.outcome.is_some() {
            break platform.ended("asks", turn.id.as_str()).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(matches!(ended, EventBody::TurnEnded { .. }));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_and_an_input_changed_by_command() {
    let platform = Platform::start().await;
    let option = |label: &str| json!({"label": label, "description": ""});
    let question = json!({"question": "Which colour?", "header": "Colour", "multiSelect": false,
        "options": [option("red"), option("blue")]});
    let prompt = script(&json!([
        [{"tool": "AskUserQuestion", "input": {"questions": [question]}}],
        [{"tool": "Bash", "input": {"command": "touch one"}}],
        [{"text": "Thanks."}]
    ]));
    platform.done(&["run", "-d", "--name", "asks", &prompt]).await;
    let asked = |tool: &'static str| {
        move |event: &Event| match &event.body {
            EventBody::ApprovalRequested { approval } => (approval.tool == tool).then_some(()),
            _ => None,
        }
    };
    platform.event("asks", asked("AskUserQuestion")).await;
    let shown = platform.done(&["show", "asks"]).await.stdout;
    assert!(shown.contains("--answer 'Which colour?=red'"), "{shown}");
    let silent =
        platform.run(&["approve", "asks", "--answer", "Which?=red", "--input", "{}"]).await;
    assert_eq!(silent.code, Some(2), "one or the other: {silent:?}");
    let answered: Approval =
        one(&platform.done(&["approve", "asks", "--answer", "blue", "--json"]).await);
    assert_eq!(answered.state, ApprovalState::Allowed);
    platform.event("asks", asked("Bash")).await;
    platform.done(&["approve", "asks", "--input", r#"{"command":"touch other"}"#]).await;
    platform.ended("asks", &platform.first_turn("asks").await).await;
    let log = platform.done(&["logs", "asks"]).await;
    assert!(log.stderr.contains(r#""Which colour?"="blue""#), "{log:?}");
    assert_eq!(platform.done(&["exec", "asks", "--", "ls"]).await.stdout, "other\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_under_way_can_be_told_something() {
    let platform = Platform::start().await;
    // Until it is told to go on, so that there is a turn to say something to.
    let wait = "until test -e go; do timeout 0.05 tail -f /dev/null; done";
    platform.done(&["run", "-d", "--yolo", "--name", "busy", &command(wait, "Over.")]).await;
    let began = |event: &Event| matches!(event.body, EventBody::ToolCall { .. }).then_some(());
    platform.event("busy", began).await;
    let mut send = platform.cli(&["send", "busy", "--steer", "mind the gap"]);
    let steering = tokio::task::spawn_blocking(move || Ran::from(send.output().unwrap()));
    let told = |event: &Event| {
        matches!(event.body, EventBody::TurnQueued { steer: true, .. }).then_some(())
    };
    platform.event("busy", told).await;
    platform.done(&["exec", "busy", "--", "touch", "go"]).await;
    let steered = steering.await.unwrap();
    assert_eq!(steered.code, Some(0), "{steered:?}");
    assert!(steered.stderr.contains("said to turn 1, which is under way"), "{steered:?}");
    assert!(platform.done(&["logs", "busy"]).await.stderr.contains("» mind the gap"));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_watched_from_elsewhere_and_stopped() {
    let platform = Platform::start().await;
    let hang = script(&json!([[{"text": "Thinking about it."}], [{"hang": true}]]));
    let hang = hang.replace(
        r#"[{"text":"Thinking about it."}]"#,
        r#"[{"text":"Thinking about it."},{"tool":"Bash","input":{"command":"true"}}]"#,
    );
    let run = platform.cli(&["run", "--yolo", "--name", "long", &hang]);
    let following = tokio::task::spawn_blocking({
        let mut run = run;
        move || Ran::from(run.output().unwrap())
    });
    platform
        .until("the session is made", || {
            let ran = Ran::from(platform.cli(&["show", "long", "--json"]).output().unwrap());
            (ran.code == Some(0)).then_some(())
        })
        .await;
    let follow = |arguments: &[&str]| {
        let mut command = platform.cli(arguments);
        tokio::task::spawn_blocking(move || Ran::from(command.output().unwrap()))
    };
    let logs = follow(&["logs", "long", "--follow"]);
    let raw = follow(&["logs", "long", "--follow", "--json"]);
    let attached = follow(&["attach", "long", "--all"]);
    platform
        .event("long", |event| matches!(event.body, EventBody::ToolResult { .. }).then_some(()))
        .await;
    assert!(platform.done(&["interrupt", "long"]).await.stderr.contains("interrupted long"));
    let ran = following.await.unwrap();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("■ turn interrupted"), "{ran:?}");
    // The log ends with its session, and so do those who follow it.
    platform.done(&["rm", "-f", "long"]).await;
    let logs = logs.await.unwrap();
    assert_eq!((logs.code, &*logs.stdout), (Some(0), "Thinking about it.\n"), "{logs:?}");
    let raw = lines::<Event>(&raw.await.unwrap());
    assert!(raw.iter().map(|event| event.seq).eq(1..=i64::try_from(raw.len()).unwrap()));
    assert!(raw.iter().any(|event| matches!(event.body, EventBody::TurnEnded { .. })));
    let attached = attached.await.unwrap();
    assert_eq!(attached.code, Some(1), "{attached:?}");
    assert!(attached.stderr.contains("long was deleted"), "{attached:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_the_api_until_they_are_revoked() {
    let platform = Platform::start().await;
    let made = platform.done(&["key", "create", "ci"]).await;
    let secret = made.stdout.trim();
    assert!(secret.starts_with("rck_") && made.stderr.contains("not shown again"), "{made:?}");
    assert_eq!(platform.done(&["ls", "--token", secret]).await.code, Some(0));
    let other: CreatedKey = one(&platform.done(&["key", "create", "deploy", "--json"]).await);
    let keys: Vec<ApiKey> = lines(&platform.done(&["key", "ls", "--json"]).await);
    assert_eq!(keys.len(), 2);
    let table = platform.done(&["key", "ls"]).await.stdout;
    assert!(table.contains("ci") && table.contains("deploy") && !table.contains(secret), "{table}");
    let ci = keys.iter().find(|key| key.name == "ci").unwrap().id.to_string();
    assert!(platform.done(&["key", "revoke", &ci]).await.stderr.contains(&ci));
    let refused = platform.run(&["ls", "--token", secret]).await;
    assert_eq!((refused.code, &*refused.stdout), (Some(5), ""), "{refused:?}");
    assert_eq!(platform.done(&["ls", "--token", &other.secret]).await.code, Some(0));
    let again = platform.run(&["key", "revoke", "key_019a0000000070008000000000000004"]).await;
    assert_eq!(again.code, Some(4), "{again:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_host_are_looked_at() {
    let platform = Platform::start().await;
    let status: ServerStatus = one(&platform.done(&["status", "--json"]).await);
    assert_eq!(status.sessions, 0);
    let text = platform.done(&["status"]).await.stdout;
    assert!(text.contains(platform.access().0) && text.contains("isolates"), "{text}");
    let checks: Vec<HostCheck> = lines(&platform.done(&["doctor", "--json"]).await);
    let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
    assert!(["agent", "git", "server"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(platform.done(&["doctor"]).await.stdout.contains("✔ server: answers at"));
    let init: Value = one(&platform.done(&["init", "--json"]).await);
    assert!(init["agent"].is_string() && init["checks"].is_array(), "{init}");
    assert!(platform.done(&["init"]).await.stderr.contains("rclaude run --repo ."));
    let list: Vec<Value> = lines(&platform.done(&["config", "list", "--json"]).await);
    let url = list.iter().find(|setting| setting["key"] == "url").unwrap();
    assert_eq!((&url["source"], url["value"].is_string()), (&json!("local server"), true));
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
            (one::<Session>(&ran).phase == Phase::Paused).then_some(())
        })
        .await;
    assert_eq!(platform.done(&["exec", "nap", "--", "echo", "awake"]).await.stdout, "awake\n");
    platform.end().await;
}
