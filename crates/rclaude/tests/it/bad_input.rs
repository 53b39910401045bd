//! What cannot be done is refused: with words that say what, where and what to do, a stable code,
//! the documented exit code, and nothing changed.

use serde_json::{Value, json};

use crate::{
    platform::{Platform, client, git, repository, script},
    support::Ran,
};

/// What a refusal must look like: exit code, code, and what its words must contain.
type Wanted<'a> = (i32, &'a str, &'a [&'a str]);

impl Platform {
    /// Runs a verb that must be refused, for people and for programs alike.
    async fn refused(&self, arguments: &[&str], (code, name, words): Wanted<'_>) {
        let ran: Ran = self.run(arguments).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{arguments:?}: {ran:?}");
        for word in words {
            assert!(ran.stderr.contains(word), "{arguments:?}: no {word:?} in {}", ran.stderr);
        }
        // Ahead of a command's own arguments, which follow a `--`.
        let json = self.run(&[&["--json"][..], arguments].concat()).await;
        let problem: Value = serde_json::from_str(&json.stderr)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {json:?}"));
        assert_eq!((json.code, &problem["code"]), (Some(code), &json!(name)), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
    }

    /// Sends bytes as they are; the status and the problem.
    async fn raw(&self, method: &str, path: &str, token: &str, body: Vec<u8>) -> (u16, Value) {
        let (url, _) = self.access();
        let answer = client()
            .request(method.parse().unwrap(), format!("{url}{path}"))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind, "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["request_id"].is_string(), "{problem}");
        (status, problem)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named_and_nothing_is_made() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("repo");
    let repo = repository(&dir, &[("a.txt", "a\n")]);
    let plain = platform.scratch().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let plain = plain.to_str().unwrap();
    let plain_url = format!("file://{plain}");
    let nobody = "http://127.0.0.1:9/acme/shop.git";
    let run = |flags: &[&str]| {
        [&["run"][..], flags, &["hi"]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let cases: [(Vec<String>, Wanted<'_>); 14] = [
        (run(&["--repo", "/no/such/dir"]), (2, "usage", &["/no/such/dir"])),
        (run(&["--repo", plain]), (2, "usage", &[plain, "git init"])),
        (run(&["--repo", "nothing"]), (2, "usage", &["`nothing`", "owner/name", "./"])),
        (run(&["--repo", &plain_url]), (2, "repository_unavailable", &[plain])),
        (
            run(&["--repo", "file:///no/such/repo"]),
            (2, "repository_unavailable", &["/no/such/repo", "hint:"]),
        ),
        (run(&["--repo", nobody]), (2, "repository_unavailable", &[nobody, "hint:"])),
        (
            run(&["--repo", &repo, "--branch", "nope"]),
            (2, "revision_not_found", &["nope", "hint:"]),
        ),
        (
            run(&["--repo", &repo, "--branch", "0123456789012345678901234567890123456789"]),
            (2, "revision_not_found", &["0123456789"]),
        ),
        (
            run(&["--template", "debian"]),
            (4, "template_not_found", &["there is no template \"debian\"; there is host"]),
        ),
        (vec!["show".into(), "nope".into()], (4, "session_not_found", &["nope", "rclaude ls"])),
        (
            vec!["send".into(), "nope".into(), "hi".into()],
            (4, "session_not_found", &["nope", "rclaude ls"]),
        ),
        (
            vec!["exec".into(), "nope".into(), "--".into(), "ls".into()],
            (4, "session_not_found", &["nope", "rclaude ls"]),
        ),
        (
            vec!["rm".into(), "-f".into(), "ses_019a0000000070008000000000000009".into()],
            (4, "session_not_found", &["ses_019a0000000070008000000000000009"]),
        ),
        (vec!["logs".into(), "nope".into()], (4, "session_not_found", &["nope"])),
    ];
    for (arguments, wanted) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        platform.refused(&arguments, wanted).await;
    }
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout, "", "no session was made");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_is_refused_before_anything_is_made() {
    let platform = Platform::start().await;
    let name = "x".repeat(64);
    let cases: [(&[&str], Wanted<'_>); 9] = [
        (&["run", ""], (2, "usage", &["empty"])),
        (&["run", " \n "], (2, "usage", &["empty"])),
        (&["start", "--env", "1A=b"], (2, "invalid_request", &["env.1A", "letters"])),
        (&["start", "--env", "A B=c"], (2, "invalid_request", &["env.A B", "letters"])),
        (&["start", "--label", "a b=c"], (2, "invalid_request", &["labels.a b", "letters"])),
        (&["start", "--label", "=c"], (2, "usage", &["KEY=VALUE"])),
        (&["start", "--model", ""], (2, "invalid_request", &["model", "empty"])),
        (&["key", "create", ""], (2, "invalid_request", &["name", "empty"])),
        (&["key", "create", " "], (2, "invalid_request", &["name"])),
    ];
    for (arguments, wanted) in cases {
        // What the command line alone refuses has no object to print: it never got that far.
        if wanted.1 == "usage" && arguments[0] == "start" {
            let ran = platform.run(arguments).await;
            assert_eq!(ran.code, Some(2), "{ran:?}");
            assert!(ran.stderr.contains(wanted.2[0]), "{ran:?}");
        } else {
            platform.refused(arguments, wanted).await;
        }
    }
    for (flag, value, word) in [
        ("--name", "Fix", "lower-case"),
        ("--name", "-a", "lower-case"),
        ("--name", &name, "63"),
        ("--cpu", "0", "CPUs"),
        ("--cpu", "many", "say 2, 0.5 or 1500m"),
        ("--memory", "4096", "say 512M or 4G"),
        ("--memory", "1M", "64M"),
        ("--permission-mode", "yolo", "bypassPermissions"),
        ("--env", "A", "KEY=VALUE"),
    ] {
        let ran = platform.run(&["start", &format!("{flag}={value}")]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{flag} {value}: {ran:?}");
        assert!(ran.stderr.contains(word), "{flag} {value}: no {word:?} in {}", ran.stderr);
    }
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout, "");
    assert_eq!(platform.run(&["key", "ls", "--json"]).await.stdout, "");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_and_a_beginning_that_fits_several_are_refused() {
    let platform = Platform::start().await;
    let one = platform.session(json!({ "name": "one" })).await;
    let two = platform.session(json!({ "name": "two" })).await;
    let taken = &["start", "--name", "one"];
    platform.refused(taken, (6, "name_taken", &["\"one\"", "--name"])).await;
    let same = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b).count();
    let beginning = &one[..same];
    let words: &[&str] = &[beginning, &one, &two];
    platform.refused(&["show", beginning], (6, "session_ambiguous", words)).await;
    let several = &["rm", "-f", beginning];
    platform.refused(several, (6, "session_ambiguous", &[beginning])).await;
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout.lines().count(), 2);
    // A name is free again once its session is gone.
    assert_eq!(platform.run(&["rm", "-f", "one"]).await.code, Some(0));
    assert_eq!(platform.run(taken).await.code, Some(0));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_two_megabytes_works_and_one_of_more_than_four_is_refused() {
    let platform = Platform::start().await;
    let say = script(&json!([[{"text": "Read."}]]));
    let large = format!("{}\n{say}", "lorem ipsum dolor sit amet, ".repeat(75_000));
    assert!(large.len() > 2_000_000);
    let run = ["run", "--yolo", "--name", "large", "-"];
    let (code, out, stderr) = platform.feed(&run, large.into_bytes()).await;
    assert_eq!((code, &*out), (Some(0), &b"Read.\n"[..]), "{stderr}\n{}", platform.log());
    let turns = platform.ok("GET", "/v1/sessions/large/turns", None).await;

    let huge = "x".repeat((4 << 20) + 1);
    for run in [&["run", "-"][..], &["send", "large", "-"]] {
        let (code, out, stderr) = platform.feed(run, huge.clone().into_bytes()).await;
        assert_eq!((code, out.len()), (Some(2), 0), "{stderr}");
        assert!(stderr.contains("text") && stderr.contains("4194304 are allowed"), "{stderr}");
    }
    let after = platform.ok("GET", "/v1/sessions/large/turns", None).await;
    assert_eq!(after, turns, "nothing was queued");
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout.lines().count(), 1);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_refused_by_the_api() {
    let platform = Platform::start().await;
    let (_, token) = platform.access();
    let id = platform.session(json!({ "name": "one" })).await;
    let turns = format!("/v1/sessions/{id}/turns");
    let execs = format!("/v1/sessions/{id}/execs");
    // Once it is up, nothing more happens in it by itself.
    assert_eq!(platform.run(&["resume", "one"]).await.code, Some(0));
    let before = platform.events(&id).await.len();
    let cases: [(&str, &str, &str, u16, &str, &str); 14] = [
        ("POST", "/v1/sessions", "{oops", 400, "invalid_request", "line 1"),
        ("POST", "/v1/sessions", "[]", 400, "invalid_request", ""),
        ("POST", "/v1/sessions", r#"{"name": 3}"#, 400, "invalid_request", "name"),
        ("POST", "/v1/sessions", r#"{"nmae": "x"}"#, 400, "invalid_request", "nmae"),
        ("POST", "/v1/sessions", r#"{"name": "A B"}"#, 400, "invalid_request", "name"),
        (
            "POST",
            "/v1/sessions",
            r#"{"resources":{"cpu_millis":1}}"#,
            400,
            "invalid_request",
            "cpu",
        ),
        ("POST", &turns, r#"{"text": ""}"#, 400, "invalid_request", "text"),
        ("POST", &turns, "{}", 400, "invalid_request", "text"),
        ("POST", &execs, r#"{"command": []}"#, 400, "invalid_request", "command"),
        ("POST", &execs, r#"{"command": "ls"}"#, 400, "invalid_request", "command"),
        ("PUT", "/v1/sessions", "{}", 405, "method_not_allowed", "PUT"),
        ("GET", "/v1/nothing", "", 404, "not_found", "/v1/nothing"),
        ("GET", "/v1/sessions/nope", "", 404, "session_not_found", "nope"),
        ("POST", "/v1/sessions/nope/turns", r#"{"text":"x"}"#, 404, "session_not_found", "nope"),
    ];
    for (method, path, body, status, code, word) in cases {
        let (got, problem) = platform.raw(method, path, token, body.into()).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{path} {body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{word}: {problem}");
    }
    let huge = format!(r#"{{"text": "{}"}}"#, "x".repeat(9 << 20));
    let (status, problem) = platform.raw("POST", &turns, token, huge.into()).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")), "{problem}");
    for wrong in ["", "rck_wrong", "rct_wrong"] {
        let (status, problem) = platform.raw("GET", "/v1/sessions", wrong, Vec::new()).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")), "{problem}");
    }
    let refused = &["ls", "--token", "rck_wrong"];
    platform.refused(refused, (5, "unauthenticated", &["rclaude key create"])).await;
    assert_eq!(platform.events(&id).await.len(), before, "nothing happened in the session");
    assert_eq!(platform.run(&["ls", "--json"]).await.stdout.lines().count(), 1);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_without_a_commit_is_explained() {
    let platform = Platform::start().await;
    let dir = platform.scratch().join("empty");
    std::fs::create_dir(&dir).unwrap();
    git(&dir, &["init", "-q", "-b", "main"]);
    let ran = platform.run(&["start", "--repo", dir.to_str().unwrap()]).await;
    // Whether it is taken or refused, it is said in words and leads to nothing half-made.
    match ran.code {
        Some(0) => {
            let name = ran.stdout.trim();
            let exec = platform.run(&["exec", name, "--", "git", "status"]).await;
            assert_eq!(exec.code, Some(0), "{exec:?}");
        }
        code => {
            assert_eq!(code, Some(2), "{ran:?}");
            assert!(ran.stderr.contains("commit"), "{ran:?}");
        }
    }
    platform.end().await;
}
