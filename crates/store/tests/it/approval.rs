//! Questions and their answers.

use std::collections::BTreeMap;

use rclaude_store::{StoreError, approval};
use rclaude_types::{
    Approval, ApprovalId, ApprovalKind, ApprovalState, Decision, SessionId, TurnId,
};
use serde_json::json;

use crate::support::{Home, at};

async fn ask(home: &Home, session: &SessionId, turn: Option<&TurnId>) -> Approval {
    let asked = Approval {
        id: ApprovalId::generate(),
        session: session.clone(),
        turn: turn.cloned(),
        kind: ApprovalKind::Permission,
        state: ApprovalState::Pending,
        tool: "Bash".to_owned(),
        tool_call: Some("toolu_1".to_owned()),
        title: "Run rm".to_owned(),
        input: json!({ "command": "rm \0" }),
        reason: None,
        questions: vec![],
        can_always: true,
        created_at: at(0),
        resolved_at: None,
    };
    let (row, request) = (asked.clone(), format!("req-{}", asked.id));
    home.write(async move |tx| {
        approval::insert(tx, &row, &request, &json!({ "suggestions": [1] })).await
    })
    .await;
    asked
}

fn allow() -> Decision {
    Decision::Allow { always: true, input: Some(json!({ "command": "ls" })), answers: None }
}

#[tokio::test]
async fn a_question_waits_and_reads_back_whole() {
    let home = Home::new().await;
    let (session, other) = (home.session().await, home.session().await);
    let (first, second) = (ask(&home, &session, None).await, ask(&home, &session, None).await);
    let elsewhere = ask(&home, &other, None).await;
    let mut conn = home.store.read().await.unwrap();
    let pending = approval::pending(&mut conn, &session).await.unwrap();
    assert!(pending.iter().map(|row| &row.approval).eq([&first, &second]));
    let request = format!("req-{}", elsewhere.id);
    let found = approval::find_by_agent_request(&mut conn, &other, &request).await.unwrap();
    let found = found.unwrap();
    assert_eq!((&found.approval, &found.agent_request), (&elsewhere, &request));
    assert_eq!((found.agent_payload, found.decision), (json!({ "suggestions": [1] }), None));
    let strange = approval::find_by_agent_request(&mut conn, &session, &request).await.unwrap();
    assert_eq!(strange, None);
    let counts = approval::pending_counts(&mut conn).await.unwrap();
    assert_eq!(counts, BTreeMap::from([(session, 2), (other, 1)]));
}

#[tokio::test]
async fn a_question_is_answered_once_and_the_second_learns_how() {
    let home = Home::new().await;
    let session = home.session().await;
    let id = ask(&home, &session, None).await.id;
    let target = id.clone();
    let row =
        home.write(async move |tx| approval::resolve(tx, &target, &allow(), at(3)).await).await;
    assert_eq!(row.approval.state, ApprovalState::Allowed);
    assert_eq!((row.approval.resolved_at, &row.decision), (Some(at(3)), &Some(allow())));

    let (target, deny) = (id.clone(), Decision::Deny { message: None, interrupt: true });
    let error =
        home.refused(async move |tx| approval::resolve(tx, &target, &deny, at(4)).await).await;
    let StoreError::AlreadyResolved(previous) = error else { panic!("{error:?}") };
    assert_eq!(*previous, row);
    let taken_back = home.write(async move |tx| approval::withdraw(tx, &id, at(5)).await).await;
    assert!(!taken_back);
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(approval::pending(&mut conn, &session).await.unwrap(), []);
}

#[tokio::test]
async fn what_nobody_answered_is_withdrawn_by_turn_or_by_session() {
    let home = Home::new().await;
    let (session, other) = (home.session().await, home.session().await);
    let turn = home.turn(&session).await;
    let answered = ask(&home, &session, Some(&turn)).await.id;
    let of_turn = ask(&home, &session, Some(&turn)).await.id;
    let of_none = ask(&home, &session, None).await.id;
    let elsewhere = ask(&home, &other, None).await.id;
    home.write(async move |tx| approval::resolve(tx, &answered, &allow(), at(1)).await).await;

    let (s, t) = (session.clone(), turn.clone());
    let by_turn =
        home.write(async move |tx| approval::withdraw_pending(tx, &s, Some(&t), at(2)).await).await;
    assert_eq!(by_turn, std::slice::from_ref(&of_turn));
    let s = session.clone();
    let by_session =
        home.write(async move |tx| approval::withdraw_pending(tx, &s, None, at(3)).await).await;
    assert_eq!(by_session, [of_none]);
    let mut conn = home.store.read().await.unwrap();
    let row = approval::get(&mut conn, &of_turn).await.unwrap();
    assert_eq!(row.approval.state, ApprovalState::Withdrawn);
    assert_eq!((row.approval.resolved_at, row.decision), (Some(at(2)), None));
    let untouched = approval::get(&mut conn, &elsewhere).await.unwrap();
    assert_eq!(untouched.approval.state, ApprovalState::Pending);
}
