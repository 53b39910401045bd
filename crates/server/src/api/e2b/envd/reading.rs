//! Reading a call before answering it.
//!
//! A call may be refused by its headers alone. A client of HTTP/1.1 that is still sending its
//! message then finds the connection closed, and never the answer.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use futures::{StreamExt as _, stream};

/// Bytes that are read ahead: calls are smaller.
const AHEAD: usize = 64 << 10;

/// Reads the message of a call that has one, as far as it is no larger than calls are.
pub(super) async fn first(request: Request, next: Next) -> Response {
    let goes_on = request.uri().path().ends_with("/StreamInput");
    if goes_on || !is_call(request.headers()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut rest = body.into_data_stream().fuse();
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < AHEAD
        && let Some(piece) = rest.next().await
    {
        size += piece.as_ref().map_or(AHEAD, bytes::Bytes::len);
        pieces.push(piece);
    }
    let body = Body::from_stream(stream::iter(pieces).chain(rest));
    next.run(Request::from_parts(parts, body)).await
}

fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.ends_with("json"))
}
