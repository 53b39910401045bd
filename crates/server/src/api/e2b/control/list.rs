//! Lists of sandboxes.

use std::collections::BTreeMap;

use axum::{
    Json as Answer,
    extract::{RawQuery, State},
    http::HeaderMap,
    response::IntoResponse,
};
use rclaude_types::SessionId;
use url::form_urlencoded;

use super::shape::Listed;
use crate::{
    api::{
        Api,
        e2b::id,
        problem::{Refusal, Result},
    },
    session::manager::leases::LeaseFilter,
};

/// Entries of a page unless asked otherwise, and at most.
const PAGE: u32 = 100;
/// Entries of the old list, which has no pages.
const ALL: u32 = 10_000;

/// A page, newest first.
pub(super) async fn list(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse> {
    let filter = read(query.as_deref().unwrap_or(""))?;
    let (found, more) = api.sessions.leases(&filter).await?;
    let mut headers = HeaderMap::new();
    let last = found.last().filter(|_| more).map(|lent| id::sandbox(&lent.lease.session));
    if let Some(token) = last.and_then(|token| token.parse().ok()) {
        headers.insert("x-next-token", token);
    }
    let listed: Vec<_> = found.iter().map(|lent| Listed::of(lent, None)).collect();
    Ok((headers, Answer(listed)))
}

/// The old list: all that run.
pub(super) async fn running(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Answer<Vec<Listed>>> {
    let asked = read(query.as_deref().unwrap_or(""))?;
    let filter = LeaseFilter { running: Some(true), limit: ALL, ..asked };
    let (found, _) = api.sessions.leases(&filter).await?;
    Ok(Answer(found.iter().map(|lent| Listed::of(lent, None)).collect()))
}

fn read(query: &str) -> Result<LeaseFilter> {
    let mut filter = LeaseFilter { limit: PAGE, ..LeaseFilter::default() };
    let invalid = |what: &str, value: &str| Refusal::invalid(format!("{what}: `{value}` is none"));
    let mut states = Vec::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "metadata" => filter.metadata.extend(metadata(&value)),
            "state" => states.extend(value.split(',').map(str::to_owned)),
            "template" => filter.template = Some(value.into_owned()),
            "order" => match &*value {
                "asc" => filter.oldest_first = true,
                "desc" => filter.oldest_first = false,
                _ => return Err(invalid("order", &value)),
            },
            "startedAfter" => {
                let moment = value.parse().map_err(|_| invalid("startedAfter", &value))?;
                filter.started_after = Some(moment);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
                filter.limit = limit.ok_or_else(|| invalid("limit", &value))?;
            }
            "nextToken" if value.is_empty() => {}
            "nextToken" => {
                let last: SessionId =
                    id::session(&value).ok_or_else(|| invalid("nextToken", &value))?;
                filter.after = Some(last);
            }
            other => return Err(Refusal::invalid(format!("`{other}` is no filter of this list"))),
        }
    }
    filter.running = match (has(&states, "running"), has(&states, "paused")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    if let Some(unknown) =
        states.iter().find(|it| !["running", "paused", ""].contains(&it.as_str()))
    {
        return Err(invalid("state", unknown));
    }
    Ok(filter)
}

fn has(states: &[String], wanted: &str) -> bool {
    states.iter().any(|state| state == wanted)
}

/// Metadata is a query within the query, its keys and values encoded once more.
fn metadata(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let encoded = format!("x={text}").replace('+', "%2B");
        let value =
            form_urlencoded::parse(encoded.as_bytes()).next().map(|(_, value)| value.into_owned());
        value.unwrap_or_default()
    };
    form_urlencoded::parse(text.as_bytes())
        .map(|(key, value)| (decode(&key), decode(&value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_decoded_as_often_as_the_sdks_encode_it() {
        // As e2b 2.51.0 sends {k: 'v v'}.
        let filter = read("metadata=k%3Dv%252520v").unwrap();
        assert_eq!(filter.metadata, BTreeMap::from([("k".to_owned(), "v v".to_owned())]));
        let two = read("metadata=a%3D1%26b%3Dx%25253Dy").unwrap();
        let wanted = [("a", "1"), ("b", "x=y")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(two.metadata, BTreeMap::from(wanted));
    }

    #[test]
    fn states_may_be_one_or_both() {
        assert_eq!(read("state=running").unwrap().running, Some(true));
        assert_eq!(read("state=paused").unwrap().running, Some(false));
        assert_eq!(read("state=running,paused").unwrap().running, None);
        assert_eq!(read("state=running&state=paused").unwrap().running, None);
        assert_eq!(read("").unwrap().running, None);
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for query in ["limit=0", "limit=101", "order=up", "state=gone", "nextToken=x", "mood=good"]
        {
            assert!(read(query).is_err(), "{query}");
        }
        assert!(read("limit=100&order=asc&nextToken=&startedAfter=2026-01-01T00:00:00Z").is_ok());
    }
}
