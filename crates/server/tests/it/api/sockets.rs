//! The log over a WebSocket.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest, http::Response,
        protocol::frame::coding::CloseCode,
    },
};

use super::rig::Server;

const SOON: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn try_open(
    server: &Server,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), Error> {
    let mut request = format!("ws://{}{path}", server.authority()).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await
}

async fn open(server: &Server, path: &str) -> Socket {
    let bearer = format!("Bearer {}", server.token);
    try_open(server, path, &[("authorization", &bearer)]).await.unwrap().0
}

/// The next event, pings passed over; or how the connection was closed.
async fn next(socket: &mut Socket) -> Result<Value, (CloseCode, String)> {
    loop {
        match timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
            Message::Ping(_) => {}
            Message::Close(Some(frame)) => return Err((frame.code, frame.reason.to_string())),
            other => panic!("{other:?}"),
        }
    }
}

async fn closed(socket: &mut Socket) -> (CloseCode, String) {
    loop {
        if let Err(end) = next(socket).await {
            return end;
        }
    }
}

#[tokio::test]
async fn a_socket_has_what_was_and_what_comes_each_once() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let mut socket = open(&server, &format!("/v1/sessions/{id}/events")).await;
    for n in 0..20 {
        server.happen(&id, &format!("model-{n}")).await;
    }
    let (mut seen, mut models) = (Vec::new(), Vec::new());
    while models.len() < 20 {
        let event = next(&mut socket).await.unwrap();
        seen.push(event["seq"].as_i64().unwrap());
        models.extend(event["model"].as_str().map(str::to_owned));
    }
    assert_eq!(seen, (1..=seen.last().copied().unwrap()).collect::<Vec<_>>());
    assert_eq!(models, (0..20).map(|n| format!("model-{n}")).collect::<Vec<_>>());

    let mut later = open(&server, &format!("/v1/sessions/{id}/events?after=5")).await;
    assert_eq!(next(&mut later).await.unwrap()["seq"], 6);
}

#[tokio::test]
async fn a_browser_brings_its_token_as_a_subprotocol_that_is_not_repeated() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}/events");
    let offered = format!("rclaude.v1, rclaude.bearer.{}", server.token);
    let own = format!("http://{}", server.authority());
    let headers = [("sec-websocket-protocol", offered.as_str()), ("origin", &own)];
    let (mut socket, response) = try_open(&server, &path, &headers).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "rclaude.v1");
    assert_eq!(next(&mut socket).await.unwrap()["seq"], 1);

    let foreign =
        [("sec-websocket-protocol", offered.as_str()), ("origin", "https://evil.example")];
    let wrong = [("sec-websocket-protocol", "rclaude.v1, rclaude.bearer.nonsense")];
    for (headers, status) in [(&foreign[..], 403), (&wrong[..], 401), (&[], 401)] {
        match try_open(&server, &path, headers).await {
            Err(Error::Http(refusal)) => assert_eq!(refusal.status(), status),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_socket_to_no_session_is_refused_before_it_opens() {
    let server = Server::start().await;
    let bearer = format!("Bearer {}", server.token);
    let path = format!("/v1/sessions/ses_{}/events", "0".repeat(32));
    match try_open(&server, &path, &[("authorization", &bearer)]).await {
        Err(Error::Http(refusal)) => assert_eq!(refusal.status(), 404),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_socket_says_that_the_server_stops() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let mut socket = open(&server, &format!("/v1/sessions/{id}/events")).await;
    next(&mut socket).await.unwrap();
    server.begin_to_stop();
    assert_eq!(closed(&mut socket).await, (CloseCode::Away, "shutting_down".to_owned()));
    drop(socket);
    timeout(SOON, server.stopped()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_talks_is_closed() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let path = format!("/v1/sessions/{id}/events");
    for message in [Message::text("hello"), Message::binary(vec![0; 16])] {
        let mut socket = open(&server, &path).await;
        socket.send(message).await.unwrap();
        assert_eq!(closed(&mut socket).await.0, CloseCode::Policy);
    }
}

#[tokio::test]
async fn a_client_that_floods_is_closed() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let mut socket = open(&server, &format!("/v1/sessions/{id}/events")).await;
    for _ in 0..200 {
        if socket.feed(Message::Pong(vec![].into())).await.is_err() {
            break;
        }
    }
    let _ = socket.flush().await;
    assert_eq!(closed(&mut socket).await, (CloseCode::Policy, "too many frames".to_owned()));
}

#[tokio::test]
async fn a_frame_too_large_ends_the_connection() {
    let server = Server::start().await;
    let id = server.session(json!({})).await;
    let mut socket = open(&server, &format!("/v1/sessions/{id}/events")).await;
    let _ = socket.send(Message::binary(vec![0; 1 << 20])).await;
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(SOON, ended).await.unwrap();
}
