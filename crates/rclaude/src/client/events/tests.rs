//! The follower against a server that drops connections.

use std::sync::{Arc, Mutex};

use rclaude_types::{ErrorCode, Problem};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_tungstenite::tungstenite::{
    handshake::server::{Request, Response},
    protocol::CloseFrame,
};

use super::*;
use crate::config::{Connection, Source};

fn event(seq: Seq, body: &str) -> String {
    format!(r#"{{"seq":{seq},"at":"2026-11-21T07:00:00Z",{body}}}"#)
}

fn started(seq: Seq) -> String {
    event(seq, r#""type":"turn_started""#)
}

/// A server whose n-th connection sends the n-th list of frames and then breaks off; the last one
/// says that the session was deleted. Keeps the `after` it was asked for.
async fn server(scripts: Vec<Vec<String>>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        let last = scripts.len() - 1;
        for (number, frames) in scripts.into_iter().enumerate() {
            let (stream, _) = listener.accept().await.unwrap();
            #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
            let remember = |request: &Request, response: Response| {
                assert_eq!(request.headers()["authorization"], "Bearer rck_test");
                kept.lock().unwrap().push(request.uri().to_string());
                Ok(response)
            };
            let mut socket = tokio_tungstenite::accept_hdr_async(stream, remember).await.unwrap();
            for frame in frames {
                socket.send(Message::text(frame)).await.unwrap();
            }
            if number == last {
                let close =
                    CloseFrame { code: CloseCode::Normal, reason: "session_deleted".into() };
                socket.close(Some(close)).await.unwrap();
                while socket.next().await.is_some_and(|message| message.is_ok()) {}
            }
        }
    });
    let connection = Connection { url, source: Source::Flag, token: Some("rck_test".to_owned()) };
    (Client::new(&connection).unwrap(), asked)
}

async fn seen(client: &Client, after: Seq) -> (Vec<Seq>, Vec<&'static str>) {
    let mut events = Box::pin(follow(client, "ses_x", after));
    let (mut seqs, mut rest) = (Vec::new(), Vec::new());
    while let Some(progress) = events.next().await {
        match progress.unwrap() {
            Progress::Entry(entry) => seqs.push(entry.seq),
            Progress::Lost { .. } => rest.push("lost"),
            Progress::Restored => rest.push("restored"),
        }
    }
    (seqs, rest)
}

#[tokio::test]
async fn every_entry_is_seen_once_however_often_the_connection_breaks() {
    let scripts = vec![
        vec![started(1), started(2)],
        // Says again what was said, in a list, then goes on.
        vec![format!("[{},{},{}]", started(2), started(3), started(4))],
        vec![],
        vec![started(5), started(5), started(6)],
    ];
    let (client, asked) = server(scripts).await;
    let (seqs, rest) = seen(&client, 0).await;
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(rest, ["lost", "restored"].repeat(3));
    let after: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|uri| uri.rsplit('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(after, ["0", "2", "4", "4"]);
}

#[tokio::test]
async fn kinds_from_the_future_are_passed_on_as_they_came() {
    let frame = event(1, r#""type":"from_the_future","x":[1, 2]"#);
    let (client, _) = server(vec![vec![frame.clone()]]).await;
    let mut events = Box::pin(follow(&client, "ses_x", 0));
    let Some(Ok(Progress::Entry(entry))) = events.next().await else { panic!("no entry") };
    assert_eq!((entry.event, entry.raw.get()), (None, frame.as_str()));
}

#[tokio::test]
async fn the_log_ends_with_the_session() {
    let deleted = event(2, r#""type":"status_changed","status":"deleted""#);
    // Were it to connect again there would be nobody: the test would not end.
    let (client, _) = server(vec![vec![started(1), deleted], vec![]]).await;
    assert_eq!(seen(&client, 0).await, (vec![1, 2], vec![]));
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let client = Client::new(&Connection { url, source: Source::Flag, token: None }).unwrap();
    let mut events = Box::pin(follow(&client, "nobody", 0));
    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let problem = Problem::new(ErrorCode::SessionNotFound, "no session `nobody`");
        let body = serde_json::to_string(&problem).unwrap();
        let head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json";
        let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (first, ()) = tokio::join!(events.next(), answer);
    let Some(Err(Failure::Problem(problem))) = first else { panic!("{first:?}") };
    assert_eq!(problem.code, ErrorCode::SessionNotFound);
    assert!(events.next().await.is_none());
}

#[test]
fn waits_grow_to_a_bound() {
    let waits: Vec<_> = (0..8).map(|attempt| wait_before(attempt).as_millis()).collect();
    assert_eq!(waits, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
}
