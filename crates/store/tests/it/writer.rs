//! What `db/write.rs` promises.

use std::collections::BTreeSet;

use rclaude_store::{StoreError, event, meta, session};
use tokio::{sync::oneshot, task::JoinSet};

use crate::support::{Home, at, new_session, notice, said};

#[tokio::test(flavor = "multi_thread")]
async fn work_that_fails_takes_back_only_its_own_writes() {
    let home = Home::new().await;
    // The first piece holds the writer until the others are queued, so that all share a batch.
    let (go, wait) = oneshot::channel::<()>();
    let mut under_way = JoinSet::new();
    let store = home.store.clone();
    under_way.spawn(async move {
        store
            .write(async move |tx| {
                wait.await.unwrap();
                meta::set(tx, "first", "kept").await
            })
            .await
    });
    for (key, ok) in [("second", true), ("third", false), ("fourth", true)] {
        let store = home.store.clone();
        under_way.spawn(async move {
            store
                .write(async move |tx| {
                    meta::set(tx, key, "kept").await?;
                    if ok {
                        Ok(())
                    } else {
                        Err(StoreError::Conflict("changed my mind".to_owned()))
                    }
                })
                .await
        });
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    go.send(()).unwrap();
    let outcomes = under_way.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "{outcomes:?}");

    let mut conn = home.store.read().await.unwrap();
    for (key, kept) in [("first", true), ("second", true), ("third", false), ("fourth", true)] {
        assert_eq!(meta::get(&mut conn, key).await.unwrap().is_some(), kept, "{key}");
    }
}

#[tokio::test]
async fn work_that_panics_takes_back_its_writes_and_leaves_the_store_usable() {
    let home = Home::new().await;
    let error = home
        .refused(async |tx| -> rclaude_store::Result<()> {
            meta::set(tx, "half", "done").await?;
            panic!("a bug");
        })
        .await;
    assert!(error.to_string().contains("a bug"), "{error}");
    home.write(async |tx| meta::set(tx, "next", "done").await).await;
    let mut conn = home.store.read().await.unwrap();
    assert_eq!(meta::get(&mut conn, "half").await.unwrap(), None);
    assert_eq!(meta::get(&mut conn, "next").await.unwrap().as_deref(), Some("done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_caller_stopped_waiting_is_done_whole() {
    let home = Home::new().await;
    let (report, begun) = oneshot::channel();
    let (go, wait) = oneshot::channel();
    let store = home.store.clone();
    let caller = JoinSet::from_iter([async move {
        store
            .write(async move |tx| {
                meta::set(tx, "one", "done").await?;
                report.send(()).unwrap();
                let () = wait.await.unwrap();
                meta::set(tx, "two", "done").await
            })
            .await
    }]);
    begun.await.unwrap();
    drop(caller);
    go.send(()).unwrap();
    // Queued behind it, so it was done when this is answered.
    let both =
        home.write(async |tx| Ok((meta::get(tx, "one").await?, meta::get(tx, "two").await?))).await;
    assert_eq!(both, (Some("done".to_owned()), Some("done".to_owned())));
}

#[tokio::test]
async fn a_read_sees_every_write_that_was_acknowledged_before_it() {
    let home = Home::new().await;
    for round in 0..100 {
        let value = round.to_string();
        let sent = value.clone();
        home.write(async move |tx| meta::set(tx, "round", &sent).await).await;
        let mut conn = home.store.read().await.unwrap();
        assert_eq!(meta::get(&mut conn, "round").await.unwrap(), Some(value));
    }
}

#[tokio::test]
async fn a_read_does_not_see_what_is_not_committed() {
    let home = Home::new().await;
    let store = home.store.clone();
    let seen = home
        .write(async move |tx| {
            meta::set(tx, "key", "value").await?;
            meta::get(&mut *store.read().await?, "key").await
        })
        .await;
    assert_eq!(seen, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_writers_lose_and_mix_up_nothing() {
    const WRITERS: usize = 32;
    const EACH: usize = 25;
    let home = Home::new().await;
    let id = home.session().await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, id) = (home.store.clone(), id.clone());
        writers.spawn(async move {
            let mut numbers = Vec::new();
            for round in 0..EACH {
                let (id, entry) = (id.clone(), [(None, notice(format!("{writer}/{round}")))]);
                let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
                numbers.push(store.write(append).await.unwrap().0);
            }
            assert!(numbers.is_sorted(), "a writer's entries keep their order");
        });
    }
    writers.join_all().await;

    let mut conn = home.store.read().await.unwrap();
    let all = event::after(&mut conn, &id, 0, 10_000).await.unwrap();
    let numbers: Vec<_> = all.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=800).collect::<Vec<_>>());
    let texts: BTreeSet<_> = all.iter().map(|event| said(&event.body)).collect();
    assert_eq!(texts.len(), WRITERS * EACH);
}

#[tokio::test]
async fn a_closed_store_has_done_what_was_queued_and_refuses_more() {
    let home = Home::new().await;
    let new = new_session();
    let id = new.id.clone();
    home.write(async move |tx| session::insert(tx, &new).await).await;
    home.store.close().await;
    let refused = home.refused(async |tx| meta::set(tx, "late", "no").await).await;
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(matches!(home.store.read().await, Err(StoreError::Unavailable(_))));

    assert!(!home.database().with_extension("db-wal").exists(), "the log was taken in");
    let again = rclaude_store::Store::open(home.database()).await.unwrap();
    session::get(&mut again.read().await.unwrap(), &id).await.unwrap();
}
