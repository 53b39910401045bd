//! A page of the log, waited for if need be.

use std::time::Duration;

use axum::{
    Json as Answer,
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use rclaude_types::{Event, Page, SessionId};

use super::EventsQuery;
use crate::api::{Api, extract::must_exist, problem::Result};

/// The page after `after`. An empty one is waited for: whoever comes back with the same cursor
/// either way sees every entry once.
pub(super) async fn read(api: &Api, id: &SessionId, query: EventsQuery) -> Result<Response> {
    let mut events = api.sessions.events(id, query.after, query.limit).await?;
    if events.is_empty() {
        must_exist(api, id).await?;
        if query.wait > 0 {
            events = wait(api, id, query).await?;
        }
    }
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    events.truncate(limit);
    let more = events.len() == limit;
    let next_cursor = events.last().filter(|_| more).map(|event| event.seq.to_string());
    Ok(Answer(Page { data: events, next_cursor }).into_response())
}

async fn wait(api: &Api, id: &SessionId, query: EventsQuery) -> Result<Vec<Event>> {
    let mut log = api.sessions.follow(id, query.after).await?;
    let patience = Duration::from_secs(query.wait.into());
    let news = tokio::select! {
        news = log.next() => news,
        () = tokio::time::sleep(patience) => None,
        () = api.stopping.cancelled() => None,
    };
    Ok(news.transpose()?.unwrap_or_default())
}
