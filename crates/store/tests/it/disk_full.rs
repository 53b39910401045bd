//! The disk is full, and then it is not.

use std::{ffi::OsString, fs, path::Path, process::Command};

use rclaude_store::{Store, StoreError, event};
use tokio::task::JoinSet;

use crate::support::{add_session, at, notice, this_test_again};

const OUTSIDE: &str = "RCLAUDE_STORE_TEST_OUTER_MOUNTS";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_write_keeps_what_was_and_is_got_over() {
    let mounts = fs::read_link("/proc/self/ns/mnt").unwrap();
    if let Some(outside) = std::env::var_os(OUTSIDE) {
        assert_ne!(OsString::from(mounts), outside, "mounts only ever in a namespace of its own");
        return fill_a_small_disk().await;
    }
    // A user and a mount namespace of its own, in which it may mount without being root.
    let test = "disk_full::a_full_disk_fails_the_write_keeps_what_was_and_is_got_over";
    let told = (OUTSIDE, mounts.to_str().unwrap());
    let inside = this_test_again(&["unshare", "-Urm"], test, told).output().unwrap();
    assert!(
        inside.status.success(),
        "{}",
        String::from_utf8_lossy(&[inside.stdout, inside.stderr].concat())
    );
}

async fn fill_a_small_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let reserve = dir.path().join("reserve");
    fs::write(&reserve, vec![1; 1 << 20]).unwrap();

    let store = Store::open(dir.path().join("rclaude.db")).await.unwrap();
    let session = add_session(&store).await;
    // Several at a time, so that the disk fills up under a shared commit.
    let mut acknowledged = 0;
    let error = 'full: loop {
        let mut writers = JoinSet::new();
        for _ in 0..8 {
            let (store, id) = (store.clone(), session.clone());
            let entry = [(None, notice("x".repeat(20_000)))];
            let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
            writers.spawn(async move { store.write(append).await });
        }
        let outcomes = writers.join_all().await;
        acknowledged += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        if let Some(error) = outcomes.into_iter().find_map(Result::err) {
            break 'full error;
        }
    };
    assert!(matches!(error, StoreError::DiskFull), "{error:?}");
    assert!(acknowledged > 0);
    assert_eq!(entries(&store, &session).await, acknowledged, "no more and no less than was told");

    // Still full: refused again, readable still.
    let (id, entry) = (session.clone(), [(None, notice("x".repeat(2_000_000)))]);
    let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
    assert!(matches!(store.write(append).await, Err(StoreError::DiskFull)));

    fs::remove_file(&reserve).unwrap();
    let (id, entry) = (session.clone(), [(None, notice("room again"))]);
    let append = async move |tx: &mut _| event::append(tx, &id, at(1), &entry).await;
    let (seq, _) = store.write(append).await.unwrap();
    assert_eq!(usize::try_from(seq).unwrap(), acknowledged + 1, "no number was lost");
    store.close().await;
    reopened(dir.path(), &session, acknowledged + 1).await;
    assert!(Command::new("umount").arg("-l").arg(dir.path()).status().unwrap().success());
}

async fn reopened(dir: &Path, session: &rclaude_types::SessionId, expected: usize) {
    let store = Store::open(dir.join("rclaude.db")).await.unwrap();
    assert_eq!(entries(&store, session).await, expected);
    store.close().await;
}

async fn entries(store: &Store, session: &rclaude_types::SessionId) -> usize {
    let mut conn = store.read().await.unwrap();
    let (mut count, mut cursor) = (0, 0);
    loop {
        let page = event::after(&mut conn, session, cursor, 500).await.unwrap();
        let Some(last) = page.last() else { return count };
        (count, cursor) = (count + page.len(), last.seq);
    }
}
