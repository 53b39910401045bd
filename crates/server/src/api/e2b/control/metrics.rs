//! What sandboxes use now. What they used before is not kept, so a list of measurements has one.

use std::collections::BTreeMap;

use axum::{Json as Answer, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asked, Sandbox};
use crate::{
    api::{
        Api,
        e2b::{id, measured::measure},
        problem::{Refusal, Result},
    },
    session::manager::leases::Lent,
};

const MAX_SANDBOXES: usize = 100;

/// A sandbox's: none while it is set aside. A span of time that is over has none either.
pub(super) async fn one(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    Asked(span): Asked<Span>,
) -> Result<Answer<Value>> {
    let lent = api.sessions.lent(&session).await?;
    let now = api.clock.now().as_micros() / 1_000_000;
    if span.end.is_some_and(|end| end < now) || !lent.is_running() {
        return Ok(Answer(json!([])));
    }
    Ok(Answer(json!([measure(&api, &session, &lent).await?])))
}

/// Of which time, in seconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct Span {
    #[serde(rename = "start")]
    _start: Option<i64>,
    end: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Separated by commas.
    sandbox_ids: String,
}

/// Those of several; who is set aside, or not there, is left out.
pub(super) async fn many(
    State(api): State<Api>,
    Asked(Wanted { sandbox_ids }): Asked<Wanted>,
) -> Result<Answer<Value>> {
    let names: Vec<_> = sandbox_ids.split(',').filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_SANDBOXES {
        return Err(Refusal::invalid(format!("sandbox_ids: at most {MAX_SANDBOXES}")));
    }
    let looks = names.into_iter().filter_map(id::session).map(|session| {
        let api = &api;
        async move {
            let lent = api.sessions.lent(&session).await.ok().filter(Lent::is_running)?;
            let measured = measure(api, &session, &lent).await.ok()?;
            Some((id::sandbox(&session), measured))
        }
    });
    let measured: BTreeMap<_, _> =
        futures::future::join_all(looks).await.into_iter().flatten().collect();
    Ok(Answer(json!({ "sandboxes": measured })))
}
