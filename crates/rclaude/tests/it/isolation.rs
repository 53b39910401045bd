//! What a session cannot do: be root, get out, reach another, take more than its share.

use std::{fs, os::unix::fs::symlink};

use rclaude_types::{EventBody, TurnOutcome};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    platform::{Platform, script},
    support::Ran,
};

async fn exec(platform: &Platform, id: &str, command: &str) -> Ran {
    platform.run(&["exec", id, "--", "bash", "-c", command]).await
}

async fn prints(platform: &Platform, id: &str, command: &str) -> String {
    let ran = exec(platform, id, command).await;
    assert_eq!(ran.code, Some(0), "{command}: {}\n{}", ran.stderr, platform.log());
    ran.stdout
}

/// Runs a program; the last frame of what the API streams of it.
async fn last_frame(platform: &Platform, id: &str, command: &[&str]) -> Value {
    let (url, token) = platform.access();
    let answer = reqwest::Client::new()
        .post(format!("{url}/v1/sessions/{id}/execs?follow=true"))
        .bearer_auth(token)
        .header("accept", "application/x-ndjson")
        .json(&json!({ "command": command }))
        .send()
        .await
        .unwrap();
    let text = answer.text().await.unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_nobody_special_and_cannot_become_anybody() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    assert_eq!(
        prints(&platform, &id, "id -u; id -un; pwd; echo $HOME").await,
        "1000\nagent\n/workspace\n/home/agent\n"
    );
    let status = prints(&platform, &id, "cat /proc/self/status").await;
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    for forbidden in [
        "mount -t tmpfs none /mnt",
        "unshare -U true",
        "unshare -n true",
        "chroot / true",
        "cat /proc/1/environ",
        "cat /etc/shadow",
        "kill -9 1",
        "echo x > /etc/passwd",
        "echo x > /opt/rclaude/agents/claude-code/claude",
        "echo 1 > /proc/sys/kernel/panic",
        "mknod /tmp/disk b 8 0",
        "ls /var/lib/agentd/processes",
        "hostname other",
        "date -s 2000-01-01",
    ] {
        let ran = exec(&platform, &id, forbidden).await;
        assert_ne!(ran.code, Some(0), "{forbidden} is possible");
    }
    assert_eq!(prints(&platform, &id, "echo alive").await, "alive\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_way_out_is_the_gateway_whatever_a_program_tries() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    // Somebody on the host's loopback that no sandbox may talk to.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = listener.local_addr().unwrap();
    let (url, _) = platform.access();
    let port = url.rsplit(':').next().unwrap();
    let model = platform.emulator.url();

    assert_eq!(
        prints(&platform, &id, "ls /sys/class/net 2>/dev/null || ip -o link | cut -d: -f2")
            .await
            .trim(),
        "lo"
    );
    let web = "curl -sS --max-time 10 http://example.com/ 2>&1";
    assert!(
        exec(&platform, &id, web).await.stdout.contains("blocked by this session's network policy")
    );
    for out in [
        format!("curl -sSf --max-time 10 --noproxy '*' http://{secret}/"),
        format!("curl -sSf --max-time 10 http://{secret}/"),
        format!("curl -sSf --max-time 10 --noproxy '*' http://127.0.0.1:{port}/healthz"),
        format!(
            "curl -sSf --max-time 10 -x http://proxy.rclaude:3128 http://127.0.0.1:{port}/healthz"
        ),
        format!("curl -sSf --max-time 10 -p -x http://proxy.rclaude:3128 {model}/"),
        format!("curl -sSf --max-time 10 --noproxy '*' {model}/"),
        "curl -sSf --max-time 10 https://example.com/".to_owned(),
        "curl -sSf --max-time 10 --noproxy '*' https://1.1.1.1/".to_owned(),
        "curl -sSf --max-time 10 --noproxy '*' http://169.254.169.254/latest/meta-data/".to_owned(),
        "curl -sSf --max-time 10 --noproxy '*' http://[::1]:80/".to_owned(),
    ] {
        let ran = exec(&platform, &id, &out).await;
        assert_ne!(ran.code, Some(0), "{out} got out: {}", ran.stdout);
    }
    let raw = "import socket\ntry:\n    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n    print('raw')\nexcept PermissionError:\n    print('refused')\n\
        try:\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n    print('packets')\nexcept OSError:\n    print('refused')";
    assert_eq!(
        prints(&platform, &id, &format!("python3 -c \"{raw}\"")).await,
        "refused\nrefused\n"
    );
    let names = "import socket; print(socket.gethostbyname('example.com'))";
    let address = prints(&platform, &id, &format!("python3 -c \"{names}\"")).await;
    assert!(address.starts_with("198.1"), "{address}");
    // Nobody knocked at the door that they all tried.
    let knocked = tokio::time::timeout(std::time::Duration::from_millis(100), listener.accept());
    assert!(knocked.await.is_err());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sessions_token_is_good_in_its_own_sandbox_and_nowhere_else() {
    let platform = Platform::start().await;
    let save = json!({"tool": "Bash", "input": {"command": "echo $ANTHROPIC_AUTH_TOKEN > token"}});
    let (id, _) = platform.prompt(&script(&json!([[save], [{"text": "ok"}]]))).await;
    let token = prints(&platform, &id, "cat token").await.trim().to_owned();
    assert!(token.starts_with("rcs_"), "{token}");
    let other = platform.session(json!({})).await;
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let ask = |token: &str| {
        format!(
            "curl -s -o /dev/null -w '%{{http_code}}' -H 'authorization: Bearer {token}' \
             -H 'content-type: application/json' -d '{body}' http://gateway.rclaude/v1/messages"
        )
    };
    assert_eq!(prints(&platform, &id, &ask(&token)).await, "200");
    let wrong = prints(&platform, &other, &ask(&token)).await;
    assert!(["401", "403"].contains(&&*wrong), "{wrong}");
    let forged = format!("{}0000", &token[..token.len() - 4]);
    let wrong = prints(&platform, &id, &ask(&forged)).await;
    assert!(["401", "403"].contains(&&*wrong), "{wrong}");
    // Nor is it a key to the server's own interface.
    let (url, _) = platform.access();
    let answer = reqwest::Client::new().get(format!("{url}/v1/sessions")).bearer_auth(&token);
    assert_eq!(answer.send().await.unwrap().status().as_u16(), 401);
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_much_memory_is_ended_and_that_is_said() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"resources": {"memory_mib": 256}})).await;
    let hog = "x = bytearray(1 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1";
    let last = last_frame(&platform, &id, &["python3", "-c", hog]).await;
    assert_eq!(last, json!({"type": "exited", "signal": 9, "out_of_memory": true}));
    assert_eq!(prints(&platform, &id, "echo alive").await, "alive\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_enough_memory_fails_its_turn_with_that_reason() {
    let platform = Platform::start().await;
    let id = platform
        .session(json!({"resources": {"memory_mib": 64}, "prompt": {"text": "hello"}}))
        .await;
    let turn = platform.first_turn(&id).await;
    let EventBody::TurnEnded { outcome, failure, .. } = platform.ended(&id, &turn).await else {
        unreachable!()
    };
    assert_eq!(outcome, TurnOutcome::Failed);
    assert!(failure.as_ref().unwrap().contains("out of memory"), "{failure:?}");
    assert!(failure.as_ref().unwrap().contains("64 MiB"), "{failure:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_agents_that_takes_too_much_memory_does_not_end_the_agent() {
    let platform = Platform::start().await;
    let hog = "python3 -c 'x = bytearray(3 << 30); x[::4096] = b\"1\" * (3 << 18)'";
    let steps = json!([[{"tool": "Bash", "input": {"command": hog}}], [{"text": "survived"}]]);
    let request = json!({"resources": {"memory_mib": 1024}, "prompt": {"text": script(&steps)}});
    let id = platform.session(request).await;
    let turn = platform.first_turn(&id).await;
    let ended = platform.ended(&id, &turn).await;
    let done = matches!(ended, EventBody::TurnEnded { outcome: TurnOutcome::Completed, .. });
    assert!(done, "{ended:?}");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_runs_into_its_limit_and_the_session_outlives_it() {
    let platform = Platform::start().await;
    let id = platform.session(json!({"resources": {"pids": 64}})).await;
    let bomb = "import os, signal, sys\nmade = []\ntry:\n    while len(made) < 1000:\n        pid = os.fork()\n        \
        if pid == 0: signal.pause()\n        made.append(pid)\nexcept OSError:\n    pass\nprint(len(made))\nfor pid in made: os.kill(pid, 9)";
    let made: u32 =
        prints(&platform, &id, &format!("python3 -c '{bomb}'")).await.trim().parse().unwrap();
    assert!((1..64).contains(&made), "{made}");
    assert_eq!(prints(&platform, &id, "echo alive").await, "alive\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_had_only_where_the_session_allows_it_and_is_root_of_nothing_else() {
    let platform = Platform::start().await;
    let plain = platform.session(json!({})).await;
    let root = json!({"command": ["id", "-u"], "root": true});
    let path = format!("/v1/sessions/{plain}/execs");
    let (status, problem) = platform.call("POST", &path, Some(root)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    let rooted = platform.session(json!({"allow_root": true})).await;
    let run = async |command: &str| {
        platform.run(&["exec", "--root", &rooted, "--", "bash", "-c", command]).await
    };
    let ran = run("id -u; touch /etc/mine && echo may").await;
    assert_eq!(ran.stdout, "0\nmay\n", "{}", ran.stderr);
    for forbidden in [
        "mount -t tmpfs none /mnt",
        "mknod /tmp/disk b 8 0",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /opt/rclaude/agents/claude-code/claude",
        "ip link add dummy0 type dummy",
        "ls /proc/1/root/../../../work",
        "curl -sSf --max-time 10 --noproxy '*' https://1.1.1.1/",
    ] {
        let ran = run(forbidden).await;
        assert_ne!(ran.code, Some(0), "{forbidden} is possible");
    }
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_those_of_the_sandbox_whatever_the_path_says() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    let secret = platform.scratch().join("secret");
    fs::write(&secret, "of the host").unwrap();
    symlink(&secret, platform.scratch().join("link")).unwrap();
    let secret = secret.to_str().unwrap();
    prints(
        &platform,
        &id,
        &format!("ln -s {secret} direct; ln -s ../../../../../..{secret} round; ln -s / all"),
    )
    .await;
    let (url, token) = platform.access();
    let http = reqwest::Client::new();
    let file = |path: &str| {
        let files = format!("{url}/v1/sessions/{id}/files");
        url::Url::parse_with_params(&files, [("path", path)]).unwrap()
    };
    let get = async |path: &str| {
        let request = http.get(file(path));
        let answer = request.bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let around = format!("../../../../../..{secret}");
    let through = format!("all{secret}");
    let dotted = format!("/proc/self/cwd/../../..{secret}");
    for path in [secret, "direct", "round", &around, &through, &dotted, "/proc/1/root/../secret"] {
        let (status, body) = get(path).await;
        assert!((400..500).contains(&status), "{path}: {status}");
        assert!(!body.contains("of the host"), "{path}: {body}");
    }
    // What is read by way of the root is the sandbox's, with the agent's rights.
    assert_eq!(get("all/etc/passwd").await.1, prints(&platform, &id, "cat /etc/passwd").await);
    assert!((400..500).contains(&get("all/proc/1/environ").await.0));
    let put = async |path: &str| {
        let request = http.put(file(path));
        request.bearer_auth(token).body("x").send().await.unwrap().status().as_u16()
    };
    for path in [
        "/etc/passwd",
        "all/etc/passwd",
        "/opt/rclaude/agents/claude-code/claude",
        "/proc/sys/kernel/panic",
    ] {
        let status = put(path).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    assert_eq!(fs::read_to_string(secret).unwrap(), "of the host");
    platform.end().await;
}
