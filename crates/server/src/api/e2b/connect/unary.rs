//! Calls with one message either way.

use axum::{
    Json,
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, MAX_MESSAGE, Result};

/// The message of a unary call.
#[derive(Debug)]
pub(in crate::api::e2b) struct Unary<T>(pub(in crate::api::e2b) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Unary<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        require(&parts.headers, "application/json")?;
        let bytes = to_bytes(body, MAX_MESSAGE)
            .await
            .map_err(|error| Error::invalid(format!("the message: {error}")).into_response())?;
        parse(&bytes).map(Self).map_err(IntoResponse::into_response)
    }
}

impl<T: Serialize> IntoResponse for Unary<T> {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

/// A message's content. What it has beyond what is known is left out, as the codec has it.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // An empty message may be sent as nothing at all.
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Error::invalid(format!("the message: {error}")))
}

/// Refuses another codec, or another protocol.
#[expect(clippy::result_large_err, reason = "an answer, made once")]
pub(super) fn require(headers: &HeaderMap, wanted: &'static str) -> Result<(), Response> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|given| given.split(';').next()).unwrap_or("").trim();
    let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    if essence != wanted {
        let accept = [("accept-post", wanted)];
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, accept).into_response());
    }
    if coding.is_some_and(|coding| coding != "identity") {
        return Err(Error::invalid("a compressed message; send `identity`").into_response());
    }
    Ok(())
}
