//! Clients that break off, come back, and miss nothing.

use std::io::{Read as _, Write as _};

use rclaude_types::{Event, Seq};
use serde_json::json;

use super::{completed, exec, slow};
use crate::platform::{Platform, script};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_comes_back_again_and_again_sees_every_event_once() {
    let mut platform = Platform::start().await;
    let id = platform.session(json!({"prompt": {"text": slow()}})).await;
    let turn = platform.first_turn(&id).await;
    let mut seen: Vec<Event> = Vec::new();
    let mut round = 0;
    let over = |seen: &[Event]| {
        seen.iter().any(|event| matches!(event.body, rclaude_types::EventBody::TurnEnded { .. }))
    };
    while !over(&seen) {
        let after = seen.last().map_or(0, |event| event.seq);
        let mut follower = if round % 2 == 0 {
            platform.follow(&id, after).await
        } else {
            platform.follow_sse(&id, after).await
        };
        for _ in 0..3 {
            if over(&seen) {
                break;
            }
            let Some(event) = follower.next().await else { break };
            seen.push(event);
        }
        drop(follower);
        round += 1;
        if round == 4 {
            platform.kill();
            platform.restart().await;
        }
    }
    completed(&platform, &id, &turn).await;
    let all = platform.events(&id).await;
    assert_eq!(seen, all[..seen.len()]);
    assert_eq!(seen.last().unwrap().seq, Seq::try_from(seen.len()).unwrap());
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_broken_off_changes_nothing() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    exec(&platform, &id, "echo before > file").await;
    let (url, token) = platform.access();
    let host = url.trim_start_matches("http://").to_owned();
    let head = |path: &str| {
        format!(
            "PUT /v1/sessions/{id}/files?path={path} HTTP/1.1\r\nhost: {host}\r\n\
             authorization: Bearer {token}\r\ncontent-length: 4000000\r\n\r\n"
        )
    };
    for path in ["file", "new"] {
        let mut socket = std::net::TcpStream::connect(&host).unwrap();
        socket.write_all(head(path).as_bytes()).unwrap();
        socket.write_all(&vec![b'x'; 1_000_000]).unwrap();
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        let _ = socket.read(&mut [0; 64]);
    }
    // What was begun is given up.
    exec(&platform, &id, "until [ \"$(ls -A)\" = file ]; do sleep 0.02; done").await;
    assert_eq!(exec(&platform, &id, "cat file").await, "before\n");
    platform.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_whose_sender_hangs_up_at_once_is_worked_on_or_never_was() {
    let platform = Platform::start().await;
    let id = platform.session(json!({})).await;
    super::works(&platform, &id).await;
    let (url, token) = platform.access();
    let host = url.trim_start_matches("http://").to_owned();
    for round in 0..20_u64 {
        let body =
            json!({"text": script(&json!([[{"text": format!("round {round}")}]]))}).to_string();
        let request = format!(
            "POST /v1/sessions/{id}/turns HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer \
             {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = std::net::TcpStream::connect(&host).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        tokio::time::sleep(std::time::Duration::from_micros(200 * round)).await;
        drop(socket);
    }
    // Nobody says anything more: what was taken must be worked on all the same, and soon.
    let started = std::time::Instant::now();
    loop {
        let turns = platform.ok("GET", &format!("/v1/sessions/{id}/turns?limit=200"), None).await;
        let turns = turns["data"].as_array().unwrap();
        if turns.iter().all(|turn| turn["outcome"] == "completed") {
            break;
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(25), "{turns:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    platform.end().await;
}
