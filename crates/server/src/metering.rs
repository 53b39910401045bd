//! Where the gateway's records go: a row each, and the session's running cost.

use async_trait::async_trait;
use rclaude_store::{
    Store, turn,
    usage::{self, UsageRow},
};

use crate::gateway::{UsageRecord, UsageSink};

/// Keeps usage records in the store, with the turn they were made in.
#[derive(Debug)]
pub(crate) struct StoredUsage {
    store: Store,
}

impl StoredUsage {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl UsageSink for StoredUsage {
    async fn record(&self, record: UsageRecord) {
        let (id, session, cost) = (record.id.clone(), record.session.clone(), record.cost);
        let written = self.store.write(async move |tx| {
            let turn = turn::current(tx, &record.session).await?.map(|row| row.turn.id);
            let row = UsageRow {
                id: record.id.to_string(),
                session: record.session,
                turn,
                agent_id: record.agent_id,
                model: record.model,
                tokens: record.tokens,
                cost: record.cost,
                price_version: record.price_version.to_owned(),
                price_estimated: record.price_estimated,
                status: i32::from(record.status),
                upstream_request: record.request_id,
                started_at: record.started_at,
                ended_at: record.ended_at,
                interrupted: record.interrupted,
            };
            usage::insert(tx, &row).await
        });
        if let Err(error) = written.await {
            tracing::error!(usage.id = %id, session.id = %session, %cost, %error, "usage was not kept");
        }
    }
}
