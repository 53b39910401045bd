//! Snapshots: checkpoints, by a name that is a template's.

use axum::{
    Json as Answer,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use rclaude_types::{Checkpoint, CheckpointKind, CreateCheckpoint, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Sandbox, missing};
use crate::{
    api::{
        Api,
        e2b::{id, words},
        extract::JsonOrNothing,
        problem::{Refusal, Result},
        validate::Validate,
    },
    session::manager::leases::LeaseFilter,
};

const PAGE: u32 = 100;

/// What making one asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewSnapshot {
    name: Option<String>,
}

impl Validate for NewSnapshot {
    fn validate(&self) -> Result<()> {
        CreateCheckpoint { note: self.name.clone() }.validate()
    }
}

/// Keeps the sandbox's whole state, and goes on.
pub(super) async fn create(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(NewSnapshot { name }): JsonOrNothing<NewSnapshot>,
) -> Result<(StatusCode, Answer<Value>)> {
    api.sessions.lent(&session).await?;
    let kept = api.sessions.checkpoint(&session, CreateCheckpoint { note: name }, None).await?;
    Ok((StatusCode::CREATED, Answer(shown(&kept))))
}

fn shown(kept: &Checkpoint) -> Value {
    let names: Vec<_> = kept.note.iter().collect();
    json!({ "snapshotID": id::snapshot(&kept.id), "names": names })
}

/// Which are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(rename = "sandboxID")]
    sandbox: Option<String>,
    name: Option<String>,
    limit: Option<u32>,
    #[serde(rename = "nextToken")]
    next_token: Option<String>,
}

/// Snapshots of one sandbox, or of all, newest first. A page is a sandbox's.
pub(super) async fn list(State(api): State<Api>, Asked(wanted): Asked<Wanted>) -> Result<Response> {
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE) as usize;
    let sessions = if let Some(name) = wanted.sandbox.as_deref() {
        let session = id::session(name).ok_or_else(|| missing(name))?;
        api.sessions.lent(&session).await?;
        vec![session]
    } else {
        let all = LeaseFilter { limit: 10_000, ..LeaseFilter::default() };
        let (all, _) = api.sessions.leases(&all).await?;
        all.into_iter().map(|lent| lent.lease.session).collect()
    };
    let mut kept = Vec::new();
    for session in sessions {
        let mut cursor = None;
        loop {
            let page = api.sessions.checkpoints(&session, cursor, 200).await?;
            kept.extend(page.data.into_iter().filter(|kept| {
                kept.kind == CheckpointKind::Manual
                    && wanted.name.as_ref().is_none_or(|name| kept.note.as_ref() == Some(name))
            }));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    kept.sort_unstable_by(|a, b| b.id.as_str().cmp(a.id.as_str()));
    if let Some(after) = wanted.next_token.as_deref().filter(|token| !token.is_empty()) {
        let after = id::checkpoint(after)
            .ok_or_else(|| Refusal::invalid(format!("nextToken: `{after}` is none")))?;
        kept.retain(|kept| kept.id < after);
    }
    let mut headers = HeaderMap::new();
    if kept.len() > limit {
        kept.truncate(limit);
        if let Some(token) = kept.last().and_then(|last| id::snapshot(&last.id).parse().ok()) {
            headers.insert("x-next-token", token);
        }
    }
    let shown: Vec<_> = kept.iter().map(shown).collect();
    Ok((headers, Answer(shown)).into_response())
}

/// Removing one: checkpoints go with their session.
pub(super) async fn remove(
    State(api): State<Api>,
    Path(template): Path<String>,
) -> Result<Response> {
    let Some(kept) = id::checkpoint(&template) else {
        let text = format!("template '{template}' not found, or it cannot be removed");
        return Err(Refusal::new(ErrorCode::TemplateNotFound, text));
    };
    api.sessions.session_of(&kept).await?;
    Ok(words::unsupported("removing a snapshot before its sandbox"))
}
