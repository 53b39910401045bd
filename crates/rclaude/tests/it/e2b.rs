//! Programs written with E2B's own client libraries, unmodified, against a real server. What they
//! check is in `tests/e2b`; here they are given a server each, and their word is taken.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rclaude_types::Phase;
use serde_json::json;

use crate::platform::{Agent, PATIENCE, Platform, repository_root};

/// Where `make test` installed the libraries.
fn libraries() -> PathBuf {
    let place = std::env::var_os("RCLAUDE_TEST_E2B")
        .map_or_else(|| repository_root().join(".tools/e2b"), PathBuf::from);
    assert!(
        place.join("js/node_modules/e2b").is_dir(),
        "E2B's client libraries are not installed at {}: run `scripts/setup.sh test`",
        place.display()
    );
    place.canonicalize().unwrap()
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2b")
}

/// Runs a program as its user would, told of the server by its environment alone.
async fn run(platform: &Platform, mut command: Command, key: &str) -> String {
    let (url, _) = platform.access();
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", platform.scratch())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("E2B_API_URL", url)
        .env("E2B_SANDBOX_URL", url)
        .env("E2B_API_KEY", key)
        .stdin(Stdio::null());
    let output: Output =
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}\nthe server's log:\n{}", platform.log());
    assert!(text.contains("0 failed"), "{text}");
    text
}

fn python(version: &str, script: &str) -> Command {
    let mut command = Command::new(libraries().join(format!("py-{version}/bin/python")));
    command.arg(scripts().join("python").join(script));
    command
}

/// A script beside the libraries: that is where its imports are looked for.
fn node(platform: &Platform, script: &str) -> Command {
    let place = platform.scratch().join("js");
    if !place.exists() {
        fs::create_dir(&place).unwrap();
        symlink(libraries().join("js/node_modules"), place.join("node_modules")).unwrap();
        for name in ["checks.mjs", "current.mjs", "older.mjs"] {
            fs::copy(scripts().join("js").join(name), place.join(name)).unwrap();
        }
    }
    let mut command = Command::new("node");
    command.arg(place.join(script));
    command
}

/// A key as older libraries want it: they look at its letters.
fn spelt_for_older(key: &str) -> String {
    key.bytes().fold("e2b_".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

async fn platform() -> Platform {
    Platform::start_with(Agent::Missing, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_the_newest_python_library_works_unmodified() {
    let platform = platform().await;
    let key = platform.access().1.to_owned();
    run(&platform, python("2.63.0", "current.py"), &key).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_the_newest_javascript_library_works_unmodified() {
    let platform = platform().await;
    // An API key is as good as the owner's token.
    let key = platform.ok("POST", "/v1/keys", Some(json!({ "name": "e2b" }))).await;
    run(&platform, node(&platform, "current.mjs"), key["secret"].as_str().unwrap()).await;
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_with_older_libraries_work_unmodified() {
    let platform = platform().await;
    let key = spelt_for_older(platform.access().1);
    let python = |version| run(&platform, python(version, "older.py"), &key);
    let node = |package| {
        let mut command = node(&platform, "older.mjs");
        command.arg(package);
        run(&platform, command, &key)
    };
    tokio::join!(python("2.45.1"), python("2.10.2"), node("e2b-2-45"), node("e2b-2-10"));
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_a_session_like_any_other_and_outlives_its_server() {
    let mut platform = platform().await;
    let call = |method: &str, path: String, token: &str, body: Option<serde_json::Value>| {
        let (url, _) = platform.access();
        let http = crate::platform::client();
        let mut request = http.request(method.parse().unwrap(), format!("{url}{path}"));
        request = request.header("x-api-key", token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.json::<serde_json::Value>().await.unwrap_or_default())
        }
    };
    let token = platform.access().1.to_owned();
    let body = json!({ "templateID": "base", "timeout": 600, "metadata": { "team": "blue" } });
    let (status, made) = call("POST", "/v2/sandboxes".to_owned(), &token, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let name = made["sandboxID"].as_str().unwrap().to_owned();
    let id = format!("ses_{}", &name[1..]);

    let session = platform.get(&id).await;
    let labels: Vec<_> = session.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("e2b.template", "base"), ("team", "blue")]);
    let ls = platform.run(&["ls"]).await;
    assert!(ls.stdout.contains(&session.name), "{}", ls.stdout);
    let wrote = platform.run(&["exec", &id, "--", "sh", "-c", "echo ours > shared"]).await;
    assert_eq!(wrote.code, Some(0), "{wrote:?}");

    let short = json!({ "templateID": "base", "timeout": 1 });
    let (_, short) = call("POST", "/v2/sandboxes".to_owned(), &token, Some(short)).await;
    let short = format!("ses_{}", &short["sandboxID"].as_str().unwrap()[1..]);

    platform.restart().await;
    let (url, _) = platform.access();
    let over = Instant::now();
    while platform.get(&short).await.phase != Phase::Hibernated {
        assert!(over.elapsed() < PATIENCE, "its time was up: {:?}", platform.get(&short).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(platform.get(&short).await.desired_reason.as_deref(), Some("ttl"));
    let read = crate::platform::client()
        .get(format!("{url}/files?path=shared"))
        .header("e2b-sandbox-id", &name)
        .header("x-access-token", made["envdAccessToken"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(read.text().await.unwrap(), "ours\n", "the same home, the same token");
    let part = crate::platform::client()
        .get(format!("{url}/files?path=/home/user/shared"))
        .header("x-access-token", made["envdAccessToken"].as_str().unwrap())
        .header("range", "bytes=1-2")
        .send()
        .await
        .unwrap();
    assert_eq!((part.status().as_u16(), part.text().await.unwrap()), (206, "ur".to_owned()));

    let host = format!("49983-{name}.localhost");
    let by_host = crate::platform::client().get(format!("{url}/health")).header("host", host);
    assert_eq!(by_host.send().await.unwrap().status().as_u16(), 204, "named by its host");

    // Who has no lease is no sandbox of E2B's.
    let plain = platform.session(json!({})).await;
    let path = format!("{url}/sandboxes/s{}", plain.trim_start_matches("ses_"));
    let answer = crate::platform::client().get(path).header("x-api-key", &token).send().await;
    let answer = answer.unwrap();
    assert_eq!(answer.status().as_u16(), 404);
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["code"], 404, "{body}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_strange_requests_are_turned_away_in_words() {
    let platform = platform().await;
    let (url, token) = platform.access();
    let http = crate::platform::client();
    let get = |path: &str| http.get(format!("{url}{path}"));
    let name = "s019a2b3c4d5e7f8091a2b3c4d5e6f708";

    let nobody = get("/v2/sandboxes").send().await.unwrap();
    assert_eq!(nobody.status().as_u16(), 401);
    let body: serde_json::Value = nobody.json().await.unwrap();
    assert_eq!(body["code"], 401, "{body}");
    for path in ["/v3/templates", "/volumes", "/secrets/x", "/v2/templates/a/builds/b"] {
        let answer = get(path).header("x-api-key", token).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 501, "{path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["code"], 501, "{path} {body}");
    }
    // The owner's token opens no sandbox's door, and a sandbox that is not there has none.
    let door = |path: &str| get(path).header("e2b-sandbox-id", name);
    assert_eq!(door("/health").send().await.unwrap().status().as_u16(), 502);
    for path in ["/files?path=a", "/envs", "/metrics"] {
        let answer = door(path).bearer_auth(token).header("x-access-token", token).send().await;
        assert_eq!(answer.unwrap().status().as_u16(), 401, "{path}");
    }
    // Nor do our own routes answer behind one, with whatever credentials.
    let own = door("/v1/sessions").bearer_auth(token).send().await.unwrap();
    assert_eq!(own.status().as_u16(), 404);
    let host = door("/health").header("host", format!("49983-{name}.evil.example"));
    assert_eq!(host.send().await.unwrap().status().as_u16(), 403, "a name that is not ours");
    platform.end().await;
}
