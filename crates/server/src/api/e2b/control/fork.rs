//! More sandboxes of one's present state.

use axum::{Json as Answer, extract::State, http::StatusCode};
use rclaude_types::Fork;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Sandbox, create::check_timeout, shape::Made};
use crate::{
    api::{
        Api,
        extract::JsonOrNothing,
        problem::{Refusal, Result},
        validate::Validate,
    },
    session::manager::leases::Terms,
};

const TIMEOUT: u32 = 300;
const MAX_FORKS: u32 = 100;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forks {
    timeout: Option<u32>,
    count: Option<u32>,
}

impl Validate for Forks {
    fn validate(&self) -> Result<()> {
        if self.count.is_some_and(|count| !(1..=MAX_FORKS).contains(&count)) {
            return Err(Refusal::invalid(format!("count: must be 1 to {MAX_FORKS}")));
        }
        self.timeout.map_or(Ok(0), check_timeout).map(drop)
    }
}

/// Makes them; each is told by itself, for one may fail to come up.
pub(super) async fn fork(
    State(api): State<Api>,
    Sandbox(session): Sandbox,
    JsonOrNothing(Forks { timeout, count }): JsonOrNothing<Forks>,
) -> Result<(StatusCode, Answer<Vec<Value>>)> {
    let parent = api.sessions.lent(&session).await?;
    let request = Fork { count: Some(count.unwrap_or(1)), ..Fork::default() };
    let made = api.sessions.fork(&session, request, None).await?;
    let terms = Terms {
        template: parent.lease.template.clone(),
        metadata: parent.lease.metadata.clone(),
        env: parent.lease.env.clone(),
        seconds: timeout.unwrap_or(TIMEOUT),
        at_end: parent.lease.at_end,
        auto_resume: parent.lease.auto_resume,
    };
    let up = made.into_iter().map(|child| {
        let (api, terms) = (&api, terms.clone());
        async move {
            let lease = api.sessions.lend(&child.id, terms).await;
            let up = api.sessions.open(&child.id).await;
            match (lease, up) {
                (Ok(lease), Ok(_)) => json!({ "sandbox": Made::of(api, &lease) }),
                (Err(problem), _) | (_, Err(problem)) => {
                    json!({ "error": { "code": problem.status, "message": problem.detail } })
                }
            }
        }
    });
    Ok((StatusCode::CREATED, Answer(futures::future::join_all(up).await)))
}
