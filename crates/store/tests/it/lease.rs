//! Leases.

use std::collections::BTreeMap;

use rclaude_store::{
    StoreError,
    lease::{self, AtEnd, Lease},
    session,
};
use rclaude_types::{Desired, SessionId};

use crate::support::{Home, at};

fn lease(session: &SessionId, ends: i64) -> Lease {
    Lease {
        session: session.clone(),
        template: "base".to_owned(),
        metadata: BTreeMap::from([("a b".to_owned(), "ü".to_owned())]),
        env: BTreeMap::new(),
        ends_at: at(ends),
        armed: true,
        at_end: AtEnd::Freeze,
        auto_resume: true,
        created_at: at(0),
    }
}

#[tokio::test]
async fn a_lease_reads_back_what_was_written_and_only_its_sessions() {
    let home = Home::new().await;
    let (lent, plain) = (home.session().await, home.session().await);
    let wanted = lease(&lent, 10);
    let new = wanted.clone();
    home.write(async move |tx| lease::insert(tx, &new).await).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(lease::get(&mut conn, &lent).await.unwrap(), wanted);
    let error = lease::get(&mut conn, &plain).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "session", .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_due_is_what_is_armed_and_over_the_first_first() {
    let home = Home::new().await;
    let ids = [home.session().await, home.session().await, home.session().await];
    for (id, ends) in ids.iter().zip([30, 10, 20]) {
        let new = lease(id, ends);
        home.write(async move |tx| lease::insert(tx, &new).await).await;
    }
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(lease::next(&mut conn).await.unwrap(), Some(at(10)));
    let due = lease::due(&mut conn, at(20)).await.unwrap();
    assert_eq!(due, [ids[1].clone(), ids[2].clone()]);
    drop(conn);
    let first = ids[1].clone();
    home.write(async move |tx| lease::set_end(tx, &first, at(10), false).await).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(lease::next(&mut conn).await.unwrap(), Some(at(20)));
    assert!(!lease::get(&mut conn, &ids[1]).await.unwrap().armed);
}

#[tokio::test]
async fn pages_go_either_way_and_leave_out_what_is_deleted() {
    let home = Home::new().await;
    let ids = [home.session().await, home.session().await, home.session().await];
    for id in &ids {
        let new = lease(id, 10);
        home.write(async move |tx| lease::insert(tx, &new).await).await;
    }
    let gone = ids[1].clone();
    home.write(async move |tx| {
        session::set_desired(tx, &gone, Desired::Deleted, None, at(1)).await.map(drop)
    })
    .await;
    let mut conn = home.store.read().await.unwrap();
    let mut page = async |after: Option<&SessionId>, oldest_first, limit| {
        let page = lease::page(&mut conn, after, oldest_first, limit).await.unwrap();
        page.into_iter().map(|lease| lease.session).collect::<Vec<_>>()
    };
    assert_eq!(page(None, false, 10).await, [ids[2].clone(), ids[0].clone()]);
    assert_eq!(page(None, true, 10).await, [ids[0].clone(), ids[2].clone()]);
    assert_eq!(page(None, true, 1).await, [ids[0].clone()]);
    assert_eq!(page(Some(&ids[0]), true, 10).await, [ids[2].clone()]);
    assert_eq!(page(Some(&ids[2]), false, 10).await, [ids[0].clone()]);
}
