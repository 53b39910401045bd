//! Turns.

use rclaude_store::{StoreError, turn};
use rclaude_types::{Turn, TurnId, TurnOutcome, TurnState};
use serde_json::json;

use crate::support::{Home, at};

#[tokio::test]
async fn numbers_count_from_one_in_each_session() {
    let home = Home::new().await;
    let (one, other) = (home.session().await, home.session().await);
    let mut turns = Vec::new();
    for session in [&one, &one, &other, &one] {
        turns.push(home.turn(session).await);
    }
    let mut conn = home.store.read().await.unwrap();
    let page = turn::list(&mut conn, &one, 0, 2).await.unwrap();
    assert!(page.iter().map(|row| row.turn.number).eq([1, 2]));
    let rest = turn::list(&mut conn, &one, 2, 2).await.unwrap();
    assert!(rest.iter().map(|row| (row.turn.number, &row.turn.id)).eq([(3, &turns[3])]));
    assert_eq!(turn::get(&mut conn, &turns[2]).await.unwrap().turn.number, 1);
}

#[tokio::test]
async fn a_turn_goes_from_the_queue_to_its_end() {
    let home = Home::new().await;
    let session = home.session().await;
    let id = TurnId::generate();
    let new = turn::NewTurn {
        id: id.clone(),
        session: session.clone(),
        text: "do \0 it".to_owned(),
        steer: true,
        input: json!({ "sender": "cli" }),
        at: at(0),
    };
    let queued = home.write(async move |tx| turn::enqueue(tx, &new).await).await;
    assert!(queued.steer);
    assert_eq!(queued.input, json!({ "sender": "cli" }));
    let behind = home.turn(&session).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(turn::next_queued(&mut conn, &session).await.unwrap(), Some(queued.clone()));
    assert_eq!(turn::current(&mut conn, &session).await.unwrap(), None);
    assert_eq!(turn::open(&mut conn, &session).await.unwrap(), Some(queued.clone()));

    let target = id.clone();
    home.write(async move |tx| {
        turn::begin(tx, &target, at(1)).await?;
        turn::set_awaiting(tx, &target, true).await
    })
    .await;
    let current = turn::current(&mut conn, &session).await.unwrap().unwrap();
    assert_eq!((current.turn.id, current.turn.state), (id.clone(), TurnState::AwaitingInput));
    let waiting = turn::queued(&mut conn, &session).await.unwrap();
    assert!(waiting.into_iter().map(|row| row.turn.id).eq([behind]));

    let target = id.clone();
    let ended = home
        .write(async move |tx| {
            turn::set_awaiting(tx, &target, false).await?;
            turn::end(tx, &target, TurnOutcome::Failed, Some("no more"), at(2)).await
        })
        .await;
    let wanted = Turn {
        state: TurnState::Ended,
        outcome: Some(TurnOutcome::Failed),
        failure: Some("no more".to_owned()),
        started_at: Some(at(1)),
        ended_at: Some(at(2)),
        ..queued.turn
    };
    assert_eq!(Turn::from(ended), wanted);
    assert_eq!(turn::current(&mut conn, &session).await.unwrap(), None);
}

#[tokio::test]
async fn a_step_out_of_order_is_a_conflict() {
    let home = Home::new().await;
    let session = home.session().await;
    let id = home.turn(&session).await;
    let (queued, running, ended) = (id.clone(), id.clone(), id);
    let error = home.refused(async move |tx| turn::set_awaiting(tx, &queued, true).await).await;
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    let error = home
        .refused(async move |tx| {
            turn::begin(tx, &running, at(1)).await?;
            turn::cancel(tx, &running, at(1)).await
        })
        .await;
    assert!(error.to_string().contains("it is running"), "{error}");
    let error = home
        .refused(async move |tx| {
            turn::cancel(tx, &ended, at(1)).await?;
            turn::begin(tx, &ended, at(1)).await
        })
        .await;
    assert!(error.to_string().contains("it is ended"), "{error}");
}

#[tokio::test]
async fn a_turn_that_never_reached_the_agent_waits_again_in_its_place() {
    let home = Home::new().await;
    let session = home.session().await;
    let (first, _second) = (home.turn(&session).await, home.turn(&session).await);
    let target = first.clone();
    let row = home
        .write(async move |tx| {
            turn::begin(tx, &target, at(1)).await?;
            turn::requeue(tx, &target).await
        })
        .await;
    assert_eq!((row.turn.state, row.turn.started_at), (TurnState::Queued, None));
    let mut conn = home.store.read().await.unwrap();
    let next = turn::next_queued(&mut conn, &session).await.unwrap().unwrap();
    assert_eq!(next.turn.id, first);
}

#[tokio::test]
async fn a_cancelled_turn_says_so() {
    let home = Home::new().await;
    let id = home.turn(&home.session().await).await;
    let row = home.write(async move |tx| turn::cancel(tx, &id, at(4)).await).await;
    assert_eq!(row.turn.outcome, Some(TurnOutcome::Cancelled));
    assert_eq!((row.turn.state, row.turn.ended_at), (TurnState::Ended, Some(at(4))));
}
