//! What sessions used.

use rclaude_store::{
    session,
    usage::{self, UsageRow},
};
use rclaude_types::{MicroUsd, SessionId, TokenUsage, TurnId, UsageByModel, UsageSummary};

use crate::support::{Home, at};

fn request(session: &SessionId, turn: Option<&TurnId>, model: &str, when: i64) -> UsageRow {
    UsageRow {
        id: format!("req-{when}"),
        session: session.clone(),
        turn: turn.cloned(),
        agent_id: None,
        model: model.to_owned(),
        tokens: TokenUsage {
            input: 1,
            output: 2,
            cache_read: 3,
            cache_write_5m: 4,
            cache_write_1h: 5,
            server_tool_requests: 6,
        },
        cost: MicroUsd(when * 100),
        price_version: "2026-11".to_owned(),
        price_estimated: model == "unknown",
        status: 200,
        upstream_request: Some("req_x".to_owned()),
        started_at: at(when),
        ended_at: at(when + 1),
        interrupted: false,
    }
}

fn times(tokens: TokenUsage, count: usize) -> TokenUsage {
    (0..count).fold(TokenUsage::default(), |sum, _| sum + tokens)
}

#[tokio::test]
async fn a_request_counts_once_and_adds_to_its_sessions_cost() {
    let home = Home::new().await;
    let session = home.session().await;
    let row = request(&session, None, "opus", 7);
    let again = UsageRow { cost: MicroUsd(1), ..row.clone() };
    let new = home
        .write(async move |tx| {
            Ok((usage::insert(tx, &row).await?, usage::insert(tx, &again).await?))
        })
        .await;
    assert_eq!(new, (true, false));
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(session::get(&mut conn, &session).await.unwrap().cost, MicroUsd(700));
    assert_eq!(usage::summary(&mut conn, &session).await.unwrap().requests, 1);
}

#[tokio::test]
async fn sums_are_by_model_for_a_session_a_span_or_a_turn() {
    let home = Home::new().await;
    let (session, other) = (home.session().await, home.session().await);
    let turn = home.turn(&session).await;
    let rows = [
        request(&session, None, "opus", 1),
        request(&session, Some(&turn), "opus", 2),
        request(&session, Some(&turn), "unknown", 3),
        request(&other, None, "opus", 4),
    ];
    let tokens = rows[0].tokens;
    home.write(async move |tx| {
        for row in &rows {
            usage::insert(tx, row).await?;
        }
        Ok(())
    })
    .await;
    let model = |model: &str, requests: usize, cost: i64| UsageByModel {
        model: model.to_owned(),
        requests: i64::try_from(requests).unwrap(),
        tokens: times(tokens, requests),
        cost: MicroUsd(cost),
        price_estimated: model == "unknown",
    };
    let sum = |requests: usize, cost: i64, models: Vec<UsageByModel>| UsageSummary {
        time: rclaude_types::TimeUsage::default(),
        requests: i64::try_from(requests).unwrap(),
        tokens: times(tokens, requests),
        cost: MicroUsd(cost),
        models,
    };
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(
        usage::summary(&mut conn, &session).await.unwrap(),
        sum(3, 600, vec![model("opus", 2, 300), model("unknown", 1, 300)])
    );
    let last_two = sum(2, 500, vec![model("opus", 1, 200), model("unknown", 1, 300)]);
    assert_eq!(usage::since(&mut conn, &session, at(2)).await.unwrap(), last_two);
    assert_eq!(usage::of_turn(&mut conn, &turn).await.unwrap(), last_two);
    assert_eq!(usage::since(&mut conn, &session, at(9)).await.unwrap(), UsageSummary::default());
}
