//! What passes, passes unchanged.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
};

use ::bytes::Bytes;
use axum::body::Body;
use futures::stream;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;

use super::{KEY, World, serve};

/// Pseudo-random bytes, with no structure a proxy could rely on.
fn noise(length: usize) -> Vec<u8> {
    let hasher = RandomState::new();
    (0..length.div_ceil(8)).flat_map(|i| hasher.hash_one(i).to_le_bytes()).take(length).collect()
}

/// `bytes` in pieces of very different sizes.
fn pieces(bytes: &[u8]) -> Vec<Result<Bytes, Infallible>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for size in [1, 7, 64, 1460, 3, 16_384, 100_000].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(Ok(Bytes::copy_from_slice(piece)));
        rest = after;
    }
    pieces
}

/// An upstream that answers with what it got, in pieces.
async fn echo() -> String {
    serve(|request| async {
        let mut headers = request.headers().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        headers.remove("content-length");
        headers.remove("transfer-encoding");
        headers.insert("connection", HeaderValue::from_static("x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        let mut response = Response::new(Body::from_stream(stream::iter(pieces(&body))));
        *response.headers_mut() = headers;
        response
    })
    .await
}

#[tokio::test]
async fn bodies_of_any_bytes_pass_unchanged_both_ways() {
    let world = World::before(&echo().await).await;
    for length in [0, 1, 100, 65_536, 3_000_000] {
        let sent = noise(length);
        let whole = world.post("/v1/messages").body(sent.clone());
        assert!(whole.send().await.unwrap().bytes().await.unwrap() == sent, "{length}");
        let body = reqwest::Body::wrap_stream(stream::iter(pieces(&sent)));
        let streamed = world.post("/v1/messages").body(body);
        assert!(streamed.send().await.unwrap().bytes().await.unwrap() == sent, "{length}");
    }
}

#[tokio::test]
async fn headers_pass_save_for_credentials_and_those_of_the_connection() {
    let world = World::before(&echo().await).await;
    let response = world
        .post("/v1/messages")
        .header("anthropic-beta", "a-2026,b-2026")
        .header("x-claude-code-session-id", "s")
        .header("accept-encoding", "gzip, br")
        .header("proxy-authorization", "Basic x")
        .body("{}")
        .send()
        .await
        .unwrap();
    let mut passed: HeaderMap = response.headers().clone();
    for name in ["host", "date", "accept", "x-api-key", "transfer-encoding"] {
        passed.remove(name);
    }
    let expected = [
        ("accept-encoding", "identity"),
        ("anthropic-beta", "a-2026,b-2026"),
        ("x-claude-code-session-id", "s"),
    ];
    let expected = expected.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    assert_eq!(passed, HeaderMap::from_iter(expected));
    // The echo itself tells the key; an API does not.
    assert_eq!(response.headers()["x-api-key"], KEY);
}

#[tokio::test]
async fn each_piece_passes_as_it_comes() {
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(1);
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let upstream = serve(move |_request| {
        let receive = receive.lock().unwrap().take().unwrap();
        async {
            Response::new(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receive)))
        }
    })
    .await;
    let world = World::before(&upstream).await;
    let mut response = world.post("/v1/messages").body("{}").send().await.unwrap();
    // Each is read before the next is written: nothing may wait for more.
    for piece in ["event: a", "\ndata: 1\n", "\n", "x"] {
        send.send(Ok(Bytes::from(piece))).await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), piece);
    }
    drop(send);
    assert_eq!(response.chunk().await.unwrap(), None);
}
