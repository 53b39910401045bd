//! What sessions used: one row per request that the gateway metered.

use rclaude_types::{
    MicroUsd, SessionId, Timestamp, TokenUsage, TurnId, UsageByModel, UsageSummary,
};

use crate::{
    Conn, Result, Tx,
    db::{Row, queries},
};

/// One metered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Its id, so that it counts once.
    pub id: String,
    /// Who pays.
    pub session: SessionId,
    /// In which turn.
    pub turn: Option<TurnId>,
    /// Which of the session's agents asked, where it says.
    pub agent_id: Option<String>,
    /// The model, as the API names it.
    pub model: String,
    /// Tokens.
    pub tokens: TokenUsage,
    /// Cost.
    pub cost: MicroUsd,
    /// Which price list it was reckoned by.
    pub price_version: String,
    /// The price was not known: the dearest known was taken.
    pub price_estimated: bool,
    /// The HTTP status it was answered with.
    pub status: i32,
    /// The API's own id of it.
    pub upstream_request: Option<String>,
    /// When it came.
    pub started_at: Timestamp,
    /// When the last of its answer was passed on.
    pub ended_at: Timestamp,
    /// Its answer was cut short.
    pub interrupted: bool,
}

macro_rules! sums {
    () => {
        "SELECT model, count(*) AS requests, CAST(sum(input) AS BIGINT) AS input, \
         CAST(sum(output) AS BIGINT) AS output, CAST(sum(cache_read) AS BIGINT) AS cache_read, \
         CAST(sum(cache_write_5m) AS BIGINT) AS cache_write_5m, \
         CAST(sum(cache_write_1h) AS BIGINT) AS cache_write_1h, \
         CAST(sum(server_tool_requests) AS BIGINT) AS server_tool_requests, \
         CAST(sum(cost_micros) AS BIGINT) AS cost_micros, \
         max(price_estimated) AS price_estimated FROM usage "
    };
}

queries! {
    INSERT = "INSERT INTO usage (id, session, turn, agent_id, model, input, output, cache_read, \
              cache_write_5m, cache_write_1h, server_tool_requests, cost_micros, price_version, \
              price_estimated, status, upstream_request, started_at, ended_at, interrupted) \
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
              $18, $19) ON CONFLICT (id) DO NOTHING";
    ADD_COST = "UPDATE session SET cost_micros = cost_micros + $2, updated_at = $3 WHERE id = $1";
    OF_SESSION = concat!(sums!(), "WHERE session = $1 GROUP BY model ORDER BY model");
    SINCE = concat!(sums!(), "WHERE session = $1 AND started_at >= $2 GROUP BY model ORDER BY model");
    OF_TURN = concat!(sums!(), "WHERE turn = $1 GROUP BY model ORDER BY model");
}

/// Adds a request and its cost to the session's; whether it was new.
pub async fn insert(tx: &mut Tx, row: &UsageRow) -> Result<bool> {
    let values = [
        (&row.id).into(),
        (&row.session).into(),
        row.turn.as_ref().into(),
        row.agent_id.as_ref().into(),
        (&row.model).into(),
        row.tokens.input.into(),
        row.tokens.output.into(),
        row.tokens.cache_read.into(),
        row.tokens.cache_write_5m.into(),
        row.tokens.cache_write_1h.into(),
        row.tokens.server_tool_requests.into(),
        row.cost.into(),
        (&row.price_version).into(),
        row.price_estimated.into(),
        row.status.into(),
        row.upstream_request.as_ref().into(),
        row.started_at.into(),
        row.ended_at.into(),
        row.interrupted.into(),
    ];
    if tx.run(INSERT, values).await? == 0 {
        return Ok(false);
    }
    tx.run(ADD_COST, [(&row.session).into(), row.cost.into(), row.ended_at.into()]).await?;
    Ok(true)
}

/// All that a session used.
pub async fn summary(conn: &mut Conn, session: &SessionId) -> Result<UsageSummary> {
    summarize(&conn.all(OF_SESSION, [session.into()]).await?)
}

/// What a session used in requests that came at this moment or later.
pub async fn since(conn: &mut Conn, session: &SessionId, at: Timestamp) -> Result<UsageSummary> {
    summarize(&conn.all(SINCE, [session.into(), at.into()]).await?)
}

/// What a turn used.
pub async fn of_turn(conn: &mut Conn, turn: &TurnId) -> Result<UsageSummary> {
    summarize(&conn.all(OF_TURN, [turn.into()]).await?)
}

fn summarize(rows: &[Row]) -> Result<UsageSummary> {
    let models = rows.iter().map(by_model).collect::<Result<Vec<_>>>()?;
    let mut summary = UsageSummary::default();
    for model in &models {
        summary.requests += model.requests;
        summary.tokens = summary.tokens + model.tokens;
        summary.cost = summary.cost + model.cost;
    }
    Ok(UsageSummary { models, ..summary })
}

fn by_model(row: &Row) -> Result<UsageByModel> {
    Ok(UsageByModel {
        model: row.get("model")?,
        requests: row.get("requests")?,
        tokens: TokenUsage {
            input: row.get("input")?,
            output: row.get("output")?,
            cache_read: row.get("cache_read")?,
            cache_write_5m: row.get("cache_write_5m")?,
            cache_write_1h: row.get("cache_write_1h")?,
            server_tool_requests: row.get("server_tool_requests")?,
        },
        cost: row.get("cost_micros")?,
        price_estimated: row.get("price_estimated")?,
    })
}
