//! How long a sandbox lasts, setting it aside, and bringing it back.

use axum::{Json as Answer, extract::State, http::StatusCode};
use rclaude_types::{Depth, ErrorCode, PauseSession};
use serde::Deserialize;

use super::{Sandbox, create::check_timeout, shape::Made};
use crate::api::{
    Api,
    extract::JsonOrNothing,
    problem::{Refusal, Result},
    validate::Validate,
};

/// Seconds a sandbox lasts from now unless the caller says otherwise.
const TIMEOUT: u32 = 300;
/// What `refreshes` adds unless told, and at most.
const REFRESH: u32 = 15;
const MAX_REFRESH: u32 = 3600;

/// What connecting asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Connect {
    timeout: Option<u32>,
    /// Whether to bring back what was in memory: whatever is there, is.
    #[serde(rename = "memory")]
    _memory: Option<bool>,
    auto_pause: Option<bool>,
}

impl Validate for Connect {
    fn validate(&self) -> Result<()> {
        if self.auto_pause.is_some() {
            let text = "autoPause: is chosen when a sandbox is made, and stays";
            return Err(Refusal::invalid(text));
        }
        self.timeout.map_or(Ok(0), check_timeout).map(drop)
    }
}

/// Brings a sandbox back if it is set aside, and has it last at least so long.
pub(super) async fn connect(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(request): JsonOrNothing<Connect>,
) -> Result<(StatusCode, Answer<Made>)> {
    let before = api.sessions.lent(&session).await?;
    let seconds = request.timeout.unwrap_or(TIMEOUT);
    let lease = api.sessions.extend(&session, seconds, true).await?;
    let status = if before.is_running() {
        StatusCode::OK
    } else {
        api.sessions.resume(&session).await?;
        StatusCode::CREATED
    };
    // Answers once it can be used.
    api.sessions.open(&session).await?;
    Ok((status, Answer(Made::of(&api, &lease))))
}

/// What resuming asks for, as old SDKs have it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Resume {
    timeout: Option<u32>,
    /// Old SDKs send it; what was chosen when the sandbox was made stays.
    #[serde(rename = "autoPause")]
    _auto_pause: Option<bool>,
}

impl Validate for Resume {
    fn validate(&self) -> Result<()> {
        self.timeout.map_or(Ok(0), check_timeout).map(drop)
    }
}

/// Brings back a sandbox that is set aside.
pub(super) async fn resume(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(request): JsonOrNothing<Resume>,
) -> Result<(StatusCode, Answer<Made>)> {
    if api.sessions.lent(&session).await?.is_running() {
        return Err(Refusal::new(ErrorCode::Conflict, "the sandbox is running"));
    }
    let seconds = request.timeout.unwrap_or(TIMEOUT);
    let lease = api.sessions.extend(&session, seconds, false).await?;
    api.sessions.resume(&session).await?;
    api.sessions.open(&session).await?;
    Ok((StatusCode::CREATED, Answer(Made::of(&api, &lease))))
}

/// What setting aside asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pause {
    memory: Option<bool>,
}

impl Validate for Pause {
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// Sets it aside, with what is in memory or without. It has no end then.
pub(super) async fn pause(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(request): JsonOrNothing<Pause>,
) -> Result<StatusCode> {
    if !api.sessions.lent(&session).await?.is_running() {
        return Err(Refusal::new(ErrorCode::Conflict, "the sandbox is paused already"));
    }
    let depth = if request.memory == Some(false) { Depth::Hibernate } else { Depth::Freeze };
    api.sessions.pause(&session, PauseSession { depth }).await?;
    api.sessions.disarm(&session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What setting the time asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeout {
    timeout: u32,
}

impl Validate for Timeout {
    fn validate(&self) -> Result<()> {
        // None left: it ends now.
        if self.timeout == 0 { Ok(()) } else { check_timeout(self.timeout).map(drop) }
    }
}

/// Has it last so long from now, whether that is more or less than before.
pub(super) async fn timeout(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    crate::api::extract::Json(request): crate::api::extract::Json<Timeout>,
) -> Result<StatusCode> {
    running(&api, &session).await?;
    api.sessions.extend(&session, request.timeout, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What prolonging asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Refresh {
    duration: Option<u32>,
}

impl Validate for Refresh {
    fn validate(&self) -> Result<()> {
        if self.duration.is_some_and(|it| it > MAX_REFRESH) {
            return Err(Refusal::invalid(format!("duration: at most {MAX_REFRESH} seconds")));
        }
        Ok(())
    }
}

/// Has it last at least so long from now.
pub(super) async fn refresh(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(request): JsonOrNothing<Refresh>,
) -> Result<StatusCode> {
    running(&api, &session).await?;
    api.sessions.extend(&session, request.duration.unwrap_or(REFRESH), true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses time for one that is set aside: it has no end.
async fn running(api: &Api, session: &rclaude_types::SessionId) -> Result<()> {
    if api.sessions.lent(session).await?.is_running() {
        return Ok(());
    }
    Err(Refusal::new(ErrorCode::SessionNotFound, "the sandbox is paused; connect to it first"))
}
