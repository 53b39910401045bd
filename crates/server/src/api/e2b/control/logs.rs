//! A sandbox's log: the session's own, an entry each.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State};
use rclaude_types::{Event, EventBody, NoticeLevel};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Sandbox};
use crate::api::{Api, problem::Result};

/// Entries of an answer at most.
const LIMIT: u32 = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct First {
    limit: Option<u32>,
}

/// Which are wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Second {
    /// Milliseconds since 1970 from which, or with `backward` before which.
    cursor: Option<i64>,
    limit: Option<u32>,
    direction: Option<String>,
    level: Option<String>,
    search: Option<String>,
}

/// As old clients ask for it.
pub(super) async fn first(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    Asked(First { limit }): Asked<First>,
) -> Result<Answer<Value>> {
    let wanted = Second { cursor: None, limit, direction: None, level: None, search: None };
    let entries = entries(&api, &session, &wanted).await?;
    let lines: Vec<_> = entries
        .iter()
        .map(|entry| json!({ "timestamp": entry["timestamp"], "line": entry["message"] }))
        .collect();
    Ok(Answer(json!({ "logs": lines, "logEntries": entries })))
}

pub(super) async fn second(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    Asked(wanted): Asked<Second>,
) -> Result<Answer<Value>> {
    Ok(Answer(json!({ "logs": entries(&api, &session, &wanted).await? })))
}

async fn entries(
    api: &Api,
    session: &rclaude_types::SessionId,
    wanted: &Second,
) -> Result<Vec<Value>> {
    api.sessions.lent(session).await?;
    let limit = wanted.limit.unwrap_or(LIMIT).clamp(1, LIMIT) as usize;
    let backward = wanted.direction.as_deref() == Some("backward");
    let takes = |event: &Event| {
        let millis = event.at.as_micros() / 1000;
        let there =
            wanted.cursor.is_none_or(|at| if backward { millis <= at } else { millis >= at });
        there && wanted.level.as_deref().is_none_or(|wanted| level(&event.body) == wanted)
    };
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = api.sessions.events(session, after, LIMIT).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let more = page.iter().filter(|event| takes(event)).map(entry).filter(|entry| {
            let message = entry["message"].as_str().unwrap_or("");
            wanted.search.as_ref().is_none_or(|text| message.contains(text.as_str()))
        });
        found.extend(more);
        if backward {
            found.drain(..found.len().saturating_sub(limit));
        } else if found.len() >= limit {
            found.truncate(limit);
            break;
        }
    }
    if backward {
        found.reverse();
    }
    Ok(found)
}

fn level(body: &EventBody) -> &'static str {
    match body {
        EventBody::Notice { level: NoticeLevel::Error, .. } => "error",
        EventBody::Notice { level: NoticeLevel::Warning, .. } => "warn",
        _ => "info",
    }
}

fn entry(event: &Event) -> Value {
    let body = serde_json::to_value(&event.body).unwrap_or_default();
    let kind = body["type"].as_str().unwrap_or("event").to_owned();
    let fields: BTreeMap<_, _> =
        BTreeMap::from([("type".to_owned(), kind), ("seq".to_owned(), event.seq.to_string())]);
    json!({
        "timestamp": event.at, "message": body.to_string(), "level": level(&event.body),
        "fields": fields,
    })
}
