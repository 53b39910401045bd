//! Request parts as handlers want them; whatever does not fit is refused as a problem that says
//! where it is wrong.

use std::{str::FromStr, sync::Arc};

use axum::{
    Json as AxumJson,
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Query as AxumQuery, RawPathParams, Request},
    http::{HeaderMap, Method, Uri, header, request::Parts},
};
use bytes::Bytes;
use futures::StreamExt;
use rclaude_types::{
    ApprovalId, CheckpointId, ErrorCode, ExecId, KeyId, SessionId, SshKeyId, TerminalId, TurnId,
};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    ApiState,
    problem::{Refusal, Result},
    validate::Validate,
};
use crate::{auth::Principal, session::manager::Idempotency};

/// The largest JSON body. A prompt may be 4 MiB of text, and JSON may double that by escaping.
pub(super) const MAX_JSON: usize = 8 << 20;

/// Bytes of a body too large that are taken all the same.
const MAX_DROPPED: usize = 64 << 20;

/// The header that makes a repeated `POST` answer with what the first one did.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The session a path names: by id, by the unique beginning of an id, or by name.
#[derive(Debug)]
pub(super) struct InSession(pub(super) SessionId);

impl FromRequestParts<Arc<ApiState>> for InSession {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<ApiState>) -> Result<Self> {
        let reference = path_param(parts, "session").await?;
        // A whole id needs no looking up: whoever uses it finds out whether it exists.
        if let Ok(id) = reference.parse() {
            return Ok(Self(id));
        }
        Ok(Self(api.sessions.resolve(&reference).await?))
    }
}

/// Refuses an id that names no session. For answers that are empty: a session that is not there has
/// no more rows than one that is new.
pub(super) async fn must_exist(api: &ApiState, id: &SessionId) -> Result<()> {
    Ok(api.sessions.resolve(id.as_str()).await.map(drop)?)
}

/// An id in a path, and what to say if it cannot be one.
pub(super) trait PathNoun: FromStr<Err: std::fmt::Display> + Send {
    /// Its name in the route.
    const PARAM: &str;
    /// What is not there when it is malformed.
    const MISSING: ErrorCode;
}

impl PathNoun for TurnId {
    const PARAM: &str = "turn";
    const MISSING: ErrorCode = ErrorCode::TurnNotFound;
}

impl PathNoun for ApprovalId {
    const PARAM: &str = "approval";
    const MISSING: ErrorCode = ErrorCode::ApprovalNotFound;
}

impl PathNoun for CheckpointId {
    const PARAM: &str = "checkpoint";
    const MISSING: ErrorCode = ErrorCode::CheckpointNotFound;
}

impl PathNoun for ExecId {
    const PARAM: &str = "exec";
    const MISSING: ErrorCode = ErrorCode::ExecNotFound;
}

impl PathNoun for TerminalId {
    const PARAM: &str = "terminal";
    const MISSING: ErrorCode = ErrorCode::TerminalNotFound;
}

impl PathNoun for KeyId {
    const PARAM: &str = "key";
    const MISSING: ErrorCode = ErrorCode::KeyNotFound;
}

impl PathNoun for SshKeyId {
    const PARAM: &str = "ssh_key";
    const MISSING: ErrorCode = ErrorCode::SshKeyNotFound;
}

/// The id a path names. Text that is no id names nothing, so it is not found.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: PathNoun, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let text = path_param(parts, T::PARAM).await?;
        text.parse().map(Self).map_err(|why| Refusal::new(T::MISSING, format!("`{text}` is {why}")))
    }
}

/// The port a path names.
#[derive(Debug, Clone, Copy)]
pub(super) struct InPort(pub(super) u16);

impl<S: Send + Sync> FromRequestParts<S> for InPort {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let port = path_param(parts, "port").await?.parse().ok().filter(|port| *port != 0);
        let invalid = || Refusal::invalid("port: must be a number from 1 to 65535");
        port.map(Self).ok_or_else(invalid)
    }
}

async fn path_param(parts: &mut Parts, name: &str) -> Result<String> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
    let value = params.iter().find_map(|(key, value)| (key == name).then(|| value.to_owned()));
    value.ok_or_else(|| Refusal::new(ErrorCode::Internal, format!("the route has no {{{name}}}")))
}

/// A query string. Unknown and repeated parameters are refused where `T` denies them.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + Validate, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let AxumQuery(query) = AxumQuery::<T>::try_from_uri(&parts.uri)
            .map_err(|rejection| Refusal::invalid(rejection.body_text()))?;
        query.validate()?;
        Ok(Self(query))
    }
}

/// A JSON body, checked.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Validate, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read(&parts.headers, body, MAX_JSON).await?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body, checked, or none at all: then what `T` is by default.
#[derive(Debug)]
pub(super) struct JsonOrNothing<T>(pub(super) T);

impl<T: DeserializeOwned + Default + Validate, S: Send + Sync> FromRequest<S> for JsonOrNothing<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, MAX_JSON).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        require_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

/// A JSON body, checked, and the request's idempotency key if it has one.
#[derive(Debug)]
pub(super) struct JsonOnce<T>(pub(super) T, pub(super) Option<Idempotency>);

impl<T: DeserializeOwned + Validate, S: Send + Sync> FromRequest<S> for JsonOnce<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read(&parts.headers, body, MAX_JSON).await?;
        let value = parse(&bytes)?;
        let once = scoped_key(&parts)?.map(|key| Idempotency {
            key,
            digest: digest(&parts.method, parts.uri.path(), &bytes),
        });
        Ok(Self(value, once))
    }
}

/// The request's idempotency key, kept apart from other callers'.
#[derive(Debug)]
pub(super) struct OnceKey(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for OnceKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        scoped_key(parts).map(Self)
    }
}

fn scoped_key(parts: &Parts) -> Result<Option<String>> {
    let Some(key) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.to_str().map_err(|_| Refusal::invalid("idempotency-key: not ASCII"))?;
    let caller = parts.extensions.get::<Principal>().map_or("", Principal::scope);
    Ok(Some(format!("{caller}:{key}")))
}

/// The key of a `POST` whose query says it all: its body, if it has one, is a stream.
pub(super) fn once_of(key: Option<String>, uri: &Uri) -> Option<Idempotency> {
    let asked = uri.path_and_query().map_or("", |it| it.as_str());
    key.map(|key| Idempotency { key, digest: digest(&Method::POST, asked, &[]) })
}

fn digest(method: &Method, path: &str, body: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(method.as_str())
        .chain_update([0])
        .chain_update(path)
        .chain_update([0])
        .chain_update(body)
        .finalize()
        .into()
}

fn require_json(headers: &HeaderMap) -> Result<()> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Err(Refusal::new(
            ErrorCode::UnsupportedMediaType,
            "content-type is missing; send application/json",
        ));
    };
    let essence = given.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    let suffix = essence.rsplit_once('+').map_or("", |(_, suffix)| suffix);
    if essence.eq_ignore_ascii_case("application/json") || suffix.eq_ignore_ascii_case("json") {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::UnsupportedMediaType,
        format!("content-type is `{essence}`; send application/json"),
    ))
}

/// Reads a body of at most `limit` bytes; one that announces more is dropped as it comes.
pub(super) async fn read(
    headers: &HeaderMap,
    body: axum::body::Body,
    limit: usize,
) -> Result<Bytes> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    let too_large = || {
        Refusal::new(ErrorCode::TooLarge, format!("the body may have {limit} bytes here, no more"))
    };
    if announced.is_some_and(|length| length > limit as u64) {
        drop_bytes(body).await;
        return Err(too_large());
    }
    to_bytes(body, limit).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>) {
            too_large()
        } else {
            Refusal::invalid(format!("the body broke off: {error}"))
        }
    })
}

/// Takes a body that is not wanted, within reason: its sender reads the answer only once it has
/// written all, and a connection closed on it meanwhile would cost it the reason.
async fn drop_bytes(body: axum::body::Body) {
    let (mut chunks, mut left) = (body.into_data_stream(), MAX_DROPPED);
    while let Some(Ok(chunk)) = chunks.next().await
        && chunk.len() <= left
    {
        left -= chunk.len();
    }
}

fn parse<T: DeserializeOwned + Validate>(bytes: &[u8]) -> Result<T> {
    let AxumJson(value) = AxumJson::<T>::from_bytes(bytes).map_err(|rejection| {
        // "<what>: <field>: <why> at line L column C", of which the first part says nothing new.
        let text = rejection.body_text();
        let (_, detail) = text.split_once(": ").unwrap_or(("", &text));
        Refusal::invalid(format!("the JSON body: {detail}"))
    })?;
    // Serde takes a struct's fields from an array as well, in an order that nobody promised.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Refusal::invalid("the JSON body: must be an object"));
    }
    value.validate()?;
    Ok(value)
}
