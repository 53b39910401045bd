//! Brings a database's schema up to what this program knows.
//!
//! The version lies in the file's header (`user_version`), beside a mark that the file is ours
//! (`application_id`). A migration is a file of SQL that is never changed once released; all
//! that are missing run in one transaction, so that a crash leaves the old schema or the new.

use super::conn::{Conn, queries};
use crate::error::{Result, StoreError};

/// One step from a version to the next.
pub(crate) struct Migration {
    /// What to run.
    pub(crate) script: &'static str,
    /// Notes the version reached.
    pub(crate) stamp: &'static str,
}

/// All steps, oldest first; the version is how many have run.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    script: include_str!("../../migrations/sqlite/0001_initial.sql"),
    stamp: "PRAGMA user_version = 1",
}];

/// "rcld"; see <https://sqlite.org/pragma.html#pragma_application_id>.
const OURS: i64 = 0x7263_6c64;
const MARK: &str = "PRAGMA application_id = 1919118436";

queries! {
    VERSION = "PRAGMA user_version";
    APPLICATION = "PRAGMA application_id";
    TABLES = "SELECT count(*) AS tables FROM sqlite_schema";
}

/// Runs what is missing. Refuses what a newer program wrote, and files that are not ours.
pub(crate) async fn migrate(conn: &mut Conn) -> Result<()> {
    let known = i64::try_from(MIGRATIONS.len()).expect("a handful");
    if check(conn, known).await? == known {
        return Ok(());
    }
    conn.control("BEGIN IMMEDIATE").await?;
    let outcome = upgrade(conn, known).await;
    let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
    outcome.and(conn.control(end).await)
}

/// Looks again now that nobody else can write, for another process may have been faster.
async fn upgrade(conn: &mut Conn, known: i64) -> Result<()> {
    let found = check(conn, known).await?;
    let missing = usize::try_from(found).expect("`check` lets no negative version pass");
    for migration in &MIGRATIONS[missing..] {
        conn.control(migration.script).await?;
        conn.control(migration.stamp).await?;
    }
    conn.control(MARK).await
}

/// The version the file is at, if this program can work with it.
async fn check(conn: &mut Conn, known: i64) -> Result<i64> {
    let found = number(conn, VERSION, "user_version").await?;
    let application = number(conn, APPLICATION, "application_id").await?;
    let empty = found == 0 && application == 0 && number(conn, TABLES, "tables").await? == 0;
    if !empty && application != OURS || found < 0 {
        return Err(StoreError::Corrupt("the file is another program's database".to_owned()));
    }
    if found > known {
        return Err(StoreError::NewerVersion { found, known });
    }
    Ok(found)
}

async fn number(conn: &mut Conn, sql: super::Sql, column: &'static str) -> Result<i64> {
    let row = conn.first(sql, []).await?;
    row.ok_or_else(|| StoreError::Corrupt(format!("{} answered nothing", sql.name)))?.get(column)
}
