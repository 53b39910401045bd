//! Who is let in, and what is done with what makes no sense.

use rclaude_types::{ErrorCode, ExecId, agentd::PROTOCOL};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Daemon, TOKEN, command, run};

#[tokio::test]
async fn nothing_is_answered_without_the_token() {
    let daemon = Daemon::start();
    for token in ["", "wrong", "a-token-for-test", "a-token-for-testsx", "A-token-for-tests"] {
        let client = daemon.client_with(token).await;
        let error = client.health().await.unwrap_err();
        assert_eq!(error.problem().unwrap().code, ErrorCode::Unauthenticated, "{token}");
        let error = client.start(&ExecId::generate(), &command(&["true"])).await.unwrap_err();
        assert_eq!(error.problem().unwrap().code, ErrorCode::Unauthenticated, "{token}");
    }
    assert_eq!(daemon.client().await.processes().await.unwrap(), []);
}

#[tokio::test]
async fn the_daemon_tells_how_it_and_its_sandbox_are() {
    let daemon = Daemon::start();
    let client = daemon.client().await;
    let health = client.health().await.unwrap();
    assert_eq!((health.protocol, health.allow_root, health.running), (PROTOCOL, false, 0));
    let metrics = client.metrics().await.unwrap();
    assert!(metrics.memory_total_bytes > 0 && metrics.disk_total_bytes > 0);
    assert!(metrics.processes > 0);
}

#[tokio::test]
async fn a_shutdown_ends_the_processes_and_then_the_daemon() {
    let mut daemon = Daemon::start();
    let client = daemon.client().await;
    let mut output = client.run(&ExecId::generate(), &command(&["sleep", "1000"])).await.unwrap();
    client.shutdown().await.unwrap();
    while let Some(Ok(_)) = futures::StreamExt::next(&mut output).await {}
    assert!(daemon.ended().await.success());
}

/// Sends raw bytes and returns all that comes back.
async fn raw(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = daemon.dial().await;
    let _refused_midway = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _cut_off = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn garbage_is_answered_or_dropped_and_never_ends_the_daemon() {
    let daemon = Daemon::start();
    let get = |line: &str, rest: &str| {
        format!(
            "{line} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n{rest}\r\n"
        )
    };
    let id = ExecId::generate();
    for (line, rest, status) in [
        ("GET /", "", "404"),
        ("GET /v1/nothing", "", "404"),
        ("PATCH /v1/health", "", "404"),
        ("GET /v1/processes/../../etc/passwd", "", "404"),
        ("GET /v1/processes/x", "", "400"),
        ("GET /v1/files?path=%zz", "", "400"),
        ("GET /v1/files?path=relative", "", "400"),
        ("GET /v1/files?path=/dev/zero", "", "400"),
        ("GET /v1/files?path=/&mode=99999999999999999999", "", "409"),
        ("PUT /v1/files?path=/tmp/x&mode=9", "", "400"),
        ("PUT /v1/files?path=/", "", "400"),
        ("DELETE /v1/files?path=/..&recursive=true", "", "400"),
        ("GET /v1/health", "", "200"),
    ] {
        let answer = raw(&daemon, get(line, rest).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line}: {answer}");
    }
    let deep = "[".repeat(100_000);
    for body in ["", "{", "[]", "null", "{\"argv\":1}", "\u{0}", &deep] {
        let head =
            get(&format!("PUT /v1/processes/{id}"), &format!("content-length: {}\r\n", body.len()));
        let answer = raw(&daemon, format!("{head}{body}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let huge = vec![b'x'; 5_000_000];
    let head = get(&format!("PUT /v1/processes/{id}"), "content-length: 5000000\r\n");
    let answer = raw(&daemon, &[head.as_bytes(), &huge].concat()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    for noise in
        [&b"\xff\xfe\x00garbage\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", b""]
    {
        let mut stream = daemon.dial().await;
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let _cut_off = stream.read_to_end(&mut Vec::new()).await;
    }
    let client = daemon.client().await;
    assert_eq!(run(&client, &command(&["echo", "well"])).await.stdout, b"well\n");
}
