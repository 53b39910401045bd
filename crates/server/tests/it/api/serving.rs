//! The accept loop: protocols, bounds, and the end.

use std::time::Duration;

use reqwest::Version;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::rig::Server;

const SOON: Duration = Duration::from_secs(20);

async fn say(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.authority()).await.unwrap();
    // The server may refuse and close before it has read all.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn both_versions_of_http_are_served_on_one_port() {
    let server = Server::start().await;
    let url = server.url.join("/healthz").unwrap();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let http1 = reqwest::Client::builder().http1_only().build().unwrap();
    assert_eq!(http2.get(url.clone()).send().await.unwrap().version(), Version::HTTP_2);
    assert_eq!(http1.get(url).send().await.unwrap().version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let server = Server::start().await;
    let answer = say(&server, "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let server = Server::start().await;
    let flood = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}", "x".repeat(1 << 20));
    let answer = say(&server, &flood).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_line_without_end_is_refused_as_the_contract_says() {
    let server = Server::start().await;
    let ask = async |length| {
        let path = "a".repeat(length);
        let line = format!("GET /v1/sessions/none/files/stat?path={path} HTTP/1.1\r\n");
        say(&server, &format!("{line}host: localhost\r\nconnection: close\r\n\r\n")).await
    };
    let longest = ask(60 << 10).await;
    assert!(longest.starts_with("HTTP/1.1 401"), "{longest}");
    let longer = ask(65 << 10).await;
    assert!(longer.starts_with("HTTP/1.1 414"), "{longer}");
}

#[tokio::test]
async fn a_stop_lets_the_request_under_way_finish() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.authority()).await.unwrap();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 14\r\n\r\n{{\"name\":",
        server.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server must have taken up the request, or stopping may close the connection first.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.begin_to_stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.write_all(b" \"ci\"}").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    timeout(SOON, server.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_connections() {
    let server = Server::start().await;
    let _silent = TcpStream::connect(server.authority()).await.unwrap();
    let kept = server.client.get(server.url.join("/healthz").unwrap()).send().await.unwrap();
    assert_eq!(kept.text().await.unwrap(), "alive\n");
    timeout(Duration::from_secs(8), server.stopped()).await.unwrap();
}
