//! `/files`: a file's bytes, out and in. A signature made with the sandbox's token may stand for
//! the token, so that a file can be handed to somebody else.

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rclaude_sandbox::agentd::{self, Part};
use rclaude_types::{ErrorCode, Problem};
use serde::Deserialize;

use super::{
    guest::{Guest, Who, admitted, has_token, session, unproved},
    upload,
};
use crate::api::{
    Api,
    e2b::{
        token::{Operation, Signed},
        words,
    },
};

/// What the daemon says of a file that its reader is told: nothing else it may say goes on.
const TOLD: [HeaderName; 3] = [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ETAG];

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/files", get(download).post(upload)).route("/files/compose", post(compose))
}

/// What both ask.
#[derive(Debug, Deserialize)]
pub(in crate::api::e2b) struct FileQuery {
    path: Option<String>,
    #[serde(default)]
    username: String,
    signature: Option<String>,
    signature_expiration: Option<i64>,
}

impl FileQuery {
    /// The signature, if there is one.
    pub(in crate::api::e2b) fn signed(&self, operation: Operation) -> Option<Signed<'_>> {
        Some(Signed {
            path: self.path.as_deref().unwrap_or(""),
            operation,
            user: &self.username,
            signature: self.signature.as_deref()?,
            expires: self.signature_expiration,
        })
    }
}

/// Lets in whoever has the sandbox's token, or a signature for this file and operation.
async fn guest(
    api: &Api,
    parts: &Parts,
    operation: Operation,
) -> Result<(Guest, FileQuery), Response> {
    let bad = |text: &str| words::error(StatusCode::BAD_REQUEST, text);
    let Query(asked) =
        Query::<FileQuery>::try_from_uri(&parts.uri).map_err(|error| bad(&error.body_text()))?;
    let session = session(parts)?;
    let now = api.clock.now();
    let signed = asked.signed(operation);
    let signed = signed.is_some_and(|signed| api.e2b.tokens.signed(&session, signed, now));
    if !signed && !has_token(api, &session, &parts.headers) {
        return Err(unproved());
    }
    let who = Who::named(&asked.username).ok_or_else(|| {
        let text = format!("invalid username: '{}'", asked.username);
        words::error(StatusCode::UNAUTHORIZED, &text)
    })?;
    Ok((admitted(api, session, who).await?, asked))
}

/// Reads a file, or one range of it.
async fn download(State(api): State<Api>, request: Request) -> Result<Response, Response> {
    let (parts, _) = request.into_parts();
    let (guest, asked) = guest(&api, &parts, Operation::Read).await?;
    let path = guest.path(asked.path.as_deref().unwrap_or(""));
    let part = Part {
        range: parts.headers.get(header::RANGE).cloned(),
        only_of: parts.headers.get(header::IF_RANGE).cloned(),
    };
    let client = guest.files().await.map_err(IntoResponse::into_response)?;
    let content = client.read(&path, part).await.map_err(failed)?;
    let partial = content.headers.contains_key(header::CONTENT_RANGE);
    let mut headers: HeaderMap = TOLD
        .into_iter()
        .filter_map(|name| content.headers.get(&name).map(|value| (name.clone(), value.clone())))
        .collect();
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, octets);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let status = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Ok((status, headers, Body::from_stream(content)).into_response())
}

/// Writes one file, or several in a form.
async fn upload(State(api): State<Api>, request: Request) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let (guest, asked) = guest(&api, &parts, Operation::Write).await?;
    if parts.headers.keys().any(|name| name.as_str().starts_with("x-metadata-")) {
        return Err(words::unsupported("metadata of a file"));
    }
    let client = guest.files().await.map_err(IntoResponse::into_response)?;
    let written = upload::write(&client, guest.who, asked.path.as_deref(), &parts.headers, body);
    Ok(Json(written.await?).into_response())
}

/// A large file from parts that were uploaded before.
async fn compose(_: Guest) -> Response {
    words::unsupported("composing a file of parts")
}

/// Why a file cannot be read or written, in E2B's words.
pub(super) fn failed(error: agentd::Error) -> Response {
    let Some(problem) = error.problem() else {
        let text = format!("the sandbox cannot be reached: {error}");
        return words::error(StatusCode::BAD_GATEWAY, &text);
    };
    match problem.code {
        // A directory where a file should be, or a file where a directory should be.
        ErrorCode::Conflict => {
            words::said(&Problem::new(ErrorCode::InvalidRequest, &*problem.detail))
        }
        _ => words::said(problem),
    }
}
