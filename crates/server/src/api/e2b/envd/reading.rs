//! Reading a request before answering it.
//!
//! A request may be refused by its headers alone. A client of HTTP/1.1 that is still sending its
//! message then finds the connection closed, and never the answer.

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

/// Bytes that are read ahead: calls are smaller, and most files.
const AHEAD: usize = 64 << 10;

/// Reads the beginning of a body, unless it goes on for as long as its answer does.
pub(super) async fn first(request: Request, next: Next) -> Response {
    if request.uri().path().ends_with("/StreamInput") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut rest = body.into_data_stream().fuse();
    let (mut pieces, mut size) = (Vec::new(), 0);
    while size < AHEAD
        && let Some(piece) = rest.next().await
    {
        size += piece.as_ref().map_or(AHEAD, Bytes::len);
        pieces.push(piece);
    }
    let body = Body::from_stream(stream::iter(pieces).chain(rest));
    next.run(Request::from_parts(parts, body)).await
}
