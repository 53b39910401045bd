//! The link to the agent's process.

use rclaude_store::{
    StoreError,
    agent::{self, AgentInput},
    event,
};
use rclaude_types::ExecId;
use serde_json::{Value, json};

use crate::support::{Home, at, notice};

#[tokio::test]
async fn offsets_and_the_events_made_of_them_are_kept_together_or_not_at_all() {
    let home = Home::new().await;
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    let exec = ExecId::generate();
    let (s, e) = (session.clone(), exec.clone());
    home.write(async move |tx| agent::begin(tx, &s, &e, &sandbox, &Value::Null, at(0)).await).await;

    for kept in [true, false] {
        let (s, e) = (session.clone(), exec.clone());
        let outcome = home.store.write(async move |tx| {
            event::append(tx, &s, at(1), &[(None, notice("a line"))]).await?;
            agent::advance(tx, &s, &e, 10, 2, &json!({ "open": "msg" })).await?;
            if kept { Ok(()) } else { Err(StoreError::Conflict("lost".to_owned())) }
        });
        assert_eq!(outcome.await.is_ok(), kept);
        let mut conn = home.store.read().await.unwrap();
        let link = agent::get(&mut conn, &session).await.unwrap().unwrap();
        assert_eq!((link.stdout_offset, link.stderr_offset), (10, 2));
        assert_eq!(link.translator, json!({ "open": "msg" }));
        assert_eq!(event::last_seq(&mut conn, &session).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn input_is_kept_at_its_offset_until_another_process_begins() {
    let home = Home::new().await;
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    let (exec, next) = (ExecId::generate(), ExecId::generate());
    let (s, e, b) = (session.clone(), exec.clone(), sandbox.clone());
    let offsets = home
        .write(async move |tx| {
            agent::begin(tx, &s, &e, &b, &Value::Null, at(0)).await?;
            let mut offsets = Vec::new();
            for data in [b"hello\n".as_slice(), b"", b"\0\xff\n"] {
                offsets.push(agent::push_input(tx, &s, &e, data).await?);
            }
            Ok(offsets)
        })
        .await;
    assert_eq!(offsets, [0, 6, 6]);

    let mut conn = home.store.read().await.unwrap();
    let hello = AgentInput { offset: 0, data: b"hello\n".to_vec() };
    let bytes = AgentInput { offset: 6, data: b"\0\xff\n".to_vec() };
    for (from, wanted) in
        [(0, vec![&hello, &bytes]), (5, vec![&hello, &bytes]), (6, vec![&bytes]), (9, vec![])]
    {
        let found = agent::inputs(&mut conn, &session, from).await.unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "from {from}");
    }
    assert_eq!(agent::get(&mut conn, &session).await.unwrap().unwrap().stdin_next, 9);

    let (s, e) = (session.clone(), next.clone());
    let link = home
        .write(async move |tx| {
            agent::begin(tx, &s, &e, &sandbox, &json!({ "fresh": true }), at(5)).await
        })
        .await;
    assert_eq!((link.exec, link.stdin_next, link.started_at), (next, 0, at(5)));
    assert_eq!(agent::inputs(&mut conn, &session, 0).await.unwrap(), []);
}

#[tokio::test]
async fn a_process_that_was_replaced_can_move_nothing() {
    let home = Home::new().await;
    let session = home.session().await;
    let sandbox = home.sandbox(&session).await;
    let (old, new) = (ExecId::generate(), ExecId::generate());
    let (s, o, n) = (session.clone(), old.clone(), new.clone());
    home.write(async move |tx| {
        agent::begin(tx, &s, &o, &sandbox, &Value::Null, at(0)).await?;
        agent::begin(tx, &s, &n, &sandbox, &Value::Null, at(1)).await
    })
    .await;
    let (s, o) = (session.clone(), old.clone());
    let advance =
        home.refused(async move |tx| agent::advance(tx, &s, &o, 1, 1, &Value::Null).await);
    assert!(matches!(advance.await, StoreError::Stale { found, .. } if found == new.as_str()));
    let (s, o) = (session.clone(), old.clone());
    let push = home.refused(async move |tx| agent::push_input(tx, &s, &o, b"x").await);
    assert!(matches!(push.await, StoreError::Stale { .. }));
    let s = session.clone();
    home.write(async move |tx| agent::end(tx, &s, &old).await).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(agent::get(&mut conn, &session).await.unwrap().unwrap().exec, new);
    let s = session.clone();
    home.write(async move |tx| agent::end(tx, &s, &new).await).await;
    assert_eq!(agent::get(&mut conn, &session).await.unwrap(), None);
}
