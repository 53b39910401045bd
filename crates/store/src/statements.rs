//! Every text the store can run is understood by the database, with the schema as it is.

use crate::{
    agent, approval, db, event, exec, idempotency, key, meta, sandbox, session, turn, usage,
};

#[tokio::test]
async fn every_statement_prepares_against_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = db::open(&dir.path().join("rclaude.db")).await.unwrap();
    let rooms = [
        agent::ALL,
        approval::ALL,
        event::ALL,
        exec::ALL,
        idempotency::ALL,
        key::ALL,
        meta::ALL,
        sandbox::ALL,
        session::ALL,
        turn::ALL,
        usage::ALL,
        db::MIGRATION_STATEMENTS,
    ];
    for sql in rooms.into_iter().flatten() {
        conn.prepare(*sql).await.unwrap_or_else(|error| panic!("{}: {error}", sql.name));
    }
}
