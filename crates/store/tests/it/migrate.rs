//! Databases of earlier versions.

use std::fmt::Write as _;

use rclaude_store::{Store, checkpoint, clock, sandbox, session};
use rclaude_types::{Desired, Phase, SandboxId, SessionId, Timestamp};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

const FIRST: &str = include_str!("../../migrations/sqlite/0001_initial.sql");

/// A session of the first version with one sandbox, as it wrote them.
fn rows(
    session: &SessionId,
    name: &str,
    desired: &str,
    sandboxes: &[(&SandboxId, &str)],
) -> String {
    let mut rows = format!(
        "INSERT INTO session (id, name, settings, desired, generation, cost_micros, last_seq, created_at, \
         updated_at) VALUES ('{session}', '{name}', '{{}}', '{desired}', 1, 0, 0, 5, 5);"
    );
    for (sandbox, phase) in sandboxes {
        let _ = write!(
            rows,
            "INSERT INTO sandbox (id, session, provider, phase, generation, token, created_at, \
             updated_at) VALUES ('{sandbox}', '{session}', 'local', '{phase}', 3, 't', 5, 5);"
        );
    }
    rows
}

#[tokio::test]
async fn what_was_paused_in_the_first_version_is_hibernated_and_counted_from_now_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rclaude.db");
    let sessions: [_; 3] = std::array::from_fn(|_| SessionId::generate());
    let sandboxes: [_; 4] = std::array::from_fn(|_| SandboxId::generate());
    let script = [
        FIRST.to_owned(),
        rows(&sessions[0], "asleep", "paused", &[(&sandboxes[0], "paused")]),
        rows(&sessions[1], "falling", "paused", &[(&sandboxes[1], "pausing")]),
        rows(
            &sessions[2],
            "awake",
            "running",
            &[(&sandboxes[2], "destroying"), (&sandboxes[3], "running")],
        ),
        "PRAGMA user_version = 1; PRAGMA application_id = 1919118436;".to_owned(),
    ]
    .concat();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut old = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    let store = Store::open(&path).await.unwrap();
    let mut conn = store.read().await.unwrap();
    let mut found = Vec::new();
    for id in &sessions {
        let row = session::get(&mut conn, id).await.unwrap();
        let machine = sandbox::current(&mut conn, id).await.unwrap();
        assert!(machine.stack.is_empty());
        assert_eq!((row.desired_reason, row.origin), (None, None));
        assert!(checkpoint::latest(&mut conn, id).await.unwrap().is_none());
        found.push((row.desired, machine.phase));
    }
    assert_eq!(
        found,
        [
            (Desired::Hibernated, Phase::Hibernated),
            (Desired::Hibernated, Phase::Hibernating),
            (Desired::Running, Phase::Running),
        ]
    );
    let later = |hours: i64| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap() + hours * 3_600_000_000)
    };
    let asleep = clock::usage(&mut conn, &sessions[0], later(1)).await.unwrap();
    assert_eq!((asleep.hibernated_micros / 60_000_000, asleep.running_micros), (60, 0));
    drop(conn);
    let awake = sessions[2].clone();
    store.write(async move |tx| clock::beat(tx, &[awake], later(1)).await).await.unwrap();
    let mut conn = store.read().await.unwrap();
    let awake = clock::usage(&mut conn, &sessions[2], later(1)).await.unwrap();
    assert_eq!((awake.hibernated_micros, awake.running_micros / 60_000_000), (0, 60));
}
