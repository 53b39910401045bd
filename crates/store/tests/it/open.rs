//! Opening: what is made, what is refused, who may share.

use std::{fs, os::unix::fs::PermissionsExt};

use rclaude_store::{Store, StoreError, event, meta};
use tokio::task::JoinSet;

use crate::support::{Home, add_session, at, notice};

#[tokio::test]
async fn a_new_database_is_readable_by_its_owner_alone() {
    let home = Home::new().await;
    home.session().await;
    for file in ["db", "db-wal"] {
        let mode = fs::metadata(home.database().with_extension(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let home = Home::new().await;
    home.write(async |tx| meta::set(tx, "server", "one").await).await;
    drop(home.store.clone());
    let again = Store::open(home.database()).await.unwrap();
    let found = meta::get(&mut again.read().await.unwrap(), "server").await.unwrap();
    assert_eq!(found.as_deref(), Some("one"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rclaude.db");
    let text = "not a database, but long enough to be looked at as one. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("rclaude.db"), "it says which file: {error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it was");
}

#[tokio::test]
async fn a_damaged_page_is_an_error_not_a_wrong_answer() {
    let home = Home::new().await;
    home.session().await;
    home.store.close().await;
    let mut bytes = fs::read(home.database()).unwrap();
    // All but the header and the schema, which are on the first pages.
    let schema = 32 * 4096;
    assert!(bytes.len() > schema);
    bytes[4096..].fill(0xa5);
    fs::write(home.database(), bytes).unwrap();
    let outcome = async {
        let store = Store::open(home.database()).await?;
        meta::get(&mut *store.read().await?, "server").await
    };
    let error = outcome.await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn a_directory_that_is_missing_or_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for place in ["missing/rclaude.db", "file/rclaude.db", "."] {
        let error = Store::open(dir.path().join(place)).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{place}: {error:?}");
    }
    // Read-only for everybody, whoever runs the test.
    let error = Store::open("/proc/rclaude.db").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_database_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let path = dir.path().join("rclaude.db");
        opening.spawn(async move { add_session(&Store::open(path).await.unwrap()).await });
    }
    assert_eq!(opening.join_all().await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_file_share_it() {
    let home = Home::new().await;
    let other = Store::open(home.database()).await.unwrap();
    let id = home.session().await;
    let mut writers = JoinSet::new();
    for store in [home.store.clone(), other.clone(), home.store.clone(), other.clone()] {
        let id = id.clone();
        writers.spawn(async move {
            for round in 0..50 {
                let (id, entry) = (id.clone(), [(None, notice(round.to_string()))]);
                let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
                store.write(append).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for store in [&home.store, &other] {
        let mut conn = store.read().await.unwrap();
        let all = event::after(&mut conn, &id, 0, 1000).await.unwrap();
        assert!(all.iter().map(|event| event.seq).eq(1..=200));
    }
}
