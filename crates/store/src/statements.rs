//! Every text the store can run is understood by the database, with the schema as it is, and
//! finds its rows by an index.

use crate::{
    agent, approval, carry, checkpoint, clock,
    db::{self, Sql},
    event, exec, idempotency, key, lease, meta, port, sandbox, session, ssh_key, turn, usage,
};

fn all() -> impl Iterator<Item = Sql> {
    let rooms = [
        agent::ALL,
        approval::ALL,
        carry::ALL,
        checkpoint::ALL,
        clock::ALL,
        event::ALL,
        exec::ALL,
        idempotency::ALL,
        key::ALL,
        lease::ALL,
        meta::ALL,
        port::ALL,
        sandbox::ALL,
        session::ALL,
        ssh_key::ALL,
        turn::ALL,
        usage::ALL,
        db::MIGRATION_STATEMENTS,
    ];
    rooms.into_iter().flatten().copied()
}

/// Texts that look at every row of a table, and why they may.
const SCANS: &[(&str, &str)] = &[
    ("rclaude_store::carry::STACKS", "wants the layers of all checkpoints"),
    ("rclaude_store::checkpoint::ALL_STACKS", "wants the layers of all checkpoints"),
    (
        "rclaude_store::checkpoint::WANTED_LAYERS",
        "wants all that are wanted, by the index of those",
    ),
    (
        "rclaude_store::checkpoint::WANTED_SEQUELS",
        "wants all that are wanted, by the index of those",
    ),
    ("rclaude_store::checkpoint::UNSTORED", "wants the oldest of a few, by the index of those"),
    ("rclaude_store::checkpoint::ALL_LAYERS", "wants all layers"),
    (
        "rclaude_store::idempotency::NEWEST_BUT",
        "wants one of the newest, by the index of their age",
    ),
    ("rclaude_store::key::LIST", "wants all keys, of which there are few"),
    ("rclaude_store::ssh_key::LIST", "wants all keys, of which there are few"),
    ("rclaude_store::lease::NEXT", "wants the first of those by their index"),
    ("rclaude_store::session::WORKING", "wants all open turns, by the index of those"),
    ("rclaude_store::session::COUNTS", "wants all live sessions, by the index of those"),
    ("rclaude_store::session::LIVE", "wants all live sessions, by the index of those"),
    ("rclaude_store::sandbox::EXISTING_STACKS", "wants all that exist, by the index of those"),
    ("rclaude_store::sandbox::TO_DESTROY", "wants all that exist, by the index of those"),
    ("rclaude_store::approval::PENDING_COUNTS", "wants all that wait, by the index of those"),
    ("rclaude_store::db::migrate::TABLES", "looks at the schema"),
];

#[tokio::test]
async fn every_statement_prepares_against_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = db::open(&dir.path().join("rclaude.db")).await.unwrap();
    for sql in all() {
        conn.prepare(sql).await.unwrap_or_else(|error| panic!("{}: {error}", sql.name));
    }
}

#[tokio::test]
async fn no_statement_looks_at_every_row_but_those_that_want_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = db::open(&dir.path().join("rclaude.db")).await.unwrap();
    let mut scans = Vec::new();
    for sql in all().filter(|sql| !sql.text.starts_with("PRAGMA")) {
        let plan = conn.plan(sql).await.unwrap();
        // What a subquery or the text itself made is bounded by that.
        let made = |line: &str| {
            ["subquery", "nearest", "sized", "VALUES"].iter().any(|w| line.contains(w))
        };
        scans.extend(
            plan.iter()
                .filter(|line| line.starts_with("SCAN") && !made(line))
                .map(|line| (sql.name, line.clone())),
        );
        assert!(!plan.iter().any(|line| line.contains("AUTOMATIC")), "{}: {plan:?}", sql.name);
    }
    let unexpected: Vec<_> =
        scans.iter().filter(|(name, _)| !SCANS.iter().any(|(known, _)| known == name)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for (name, _) in SCANS {
        assert!(scans.iter().any(|(scanning, _)| scanning == name), "{name} no longer scans");
    }
}
