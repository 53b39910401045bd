//! Brings a database's schema up to what this program knows.
//!
//! The version lies in the file's header (`user_version`), beside a mark that the file is ours
//! (`application_id`). A migration is a file of SQL that is never changed once released; all
//! that are missing run in one transaction, so that a crash leaves the old schema or the new.

use super::conn::{Conn, queries};
use crate::error::{Result, StoreError};

/// One step from a version to the next.
struct Migration {
    /// What to run.
    script: &'static str,
    /// Notes the version reached.
    stamp: &'static str,
}

/// All steps, oldest first; the version is how many have run.
const MIGRATIONS: &[Migration] = &[
    Migration {
        script: include_str!("../../migrations/sqlite/0001_initial.sql"),
        stamp: "PRAGMA user_version = 1",
    },
    Migration {
        script: include_str!("../../migrations/sqlite/0002_checkpoints.sql"),
        stamp: "PRAGMA user_version = 2",
    },
    Migration {
        script: include_str!("../../migrations/sqlite/0003_public_ports.sql"),
        stamp: "PRAGMA user_version = 3",
    },
    Migration {
        script: include_str!("../../migrations/sqlite/0004_ssh_keys.sql"),
        stamp: "PRAGMA user_version = 4",
    },
    Migration {
        script: include_str!("../../migrations/sqlite/0005_leases.sql"),
        stamp: "PRAGMA user_version = 5",
    },
];

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
    run_missing(conn, MIGRATIONS).await
}

async fn run_missing(conn: &mut Conn, migrations: &[Migration]) -> Result<()> {
    if check(conn, migrations).await? == migrations.len() {
        return Ok(());
    }
    conn.control("BEGIN IMMEDIATE").await?;
    let outcome = upgrade(conn, migrations).await;
    let end = if outcome.is_ok() { "COMMIT" } else { "ROLLBACK" };
    outcome.and(conn.control(end).await)
}

/// Looks again now that nobody else can write, for another process may have been faster.
async fn upgrade(conn: &mut Conn, migrations: &[Migration]) -> Result<()> {
    let found = check(conn, migrations).await?;
    for migration in &migrations[found..] {
        conn.control(migration.script).await?;
        conn.control(migration.stamp).await?;
    }
    conn.control(MARK).await
}

/// The version the file is at, if this program can work with it.
async fn check(conn: &mut Conn, migrations: &[Migration]) -> Result<usize> {
    let found = number(conn, VERSION, "user_version").await?;
    let application = number(conn, APPLICATION, "application_id").await?;
    let empty = found == 0 && application == 0 && number(conn, TABLES, "tables").await? == 0;
    let ours = (empty || application == OURS).then(|| usize::try_from(found).ok()).flatten();
    match ours {
        None => Err(StoreError::Corrupt("the file is another program's database".to_owned())),
        Some(version) if version > migrations.len() => {
            let known = i64::try_from(migrations.len()).expect("a handful");
            Err(StoreError::NewerVersion { found, known })
        }
        Some(version) => Ok(version),
    }
}

async fn number(conn: &mut Conn, sql: super::Sql, column: &'static str) -> Result<i64> {
    let row = conn.first(sql, []).await?;
    row.ok_or_else(|| StoreError::Corrupt(format!("{} answered nothing", sql.name)))?.get(column)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::db::{Sql, sqlite};

    const KEEP: &str = "INSERT INTO meta (key, value) VALUES ('kept', 'yes')";
    const KEPT: Sql = Sql { name: "kept", text: "SELECT value FROM meta WHERE key = 'kept'" };
    const SCHEMA: Sql = Sql {
        name: "schema",
        text: "SELECT coalesce(sql, name) AS sql FROM sqlite_schema ORDER BY type, name",
    };

    async fn schema(conn: &mut Conn) -> Vec<String> {
        let rows = conn.all(SCHEMA, []).await.unwrap();
        rows.iter().map(|row| row.get("sql").unwrap()).collect()
    }

    /// A database as the program of that version left it.
    async fn database_of_version(version: usize, path: &Path) -> Conn {
        let mut conn = sqlite::open_writer(path).await.unwrap();
        run_missing(&mut conn, &MIGRATIONS[..version]).await.unwrap();
        conn
    }

    #[tokio::test]
    async fn a_database_of_every_earlier_version_becomes_as_a_new_one_and_keeps_its_rows() {
        let dir = tempfile::tempdir().unwrap();
        let newest = MIGRATIONS.len();
        let new = schema(&mut database_of_version(newest, &dir.path().join("new.db")).await).await;
        for version in 1..=newest {
            let path = dir.path().join(format!("{version}.db"));
            let mut conn = database_of_version(version, &path).await;
            conn.control(KEEP).await.unwrap();
            run_missing(&mut conn, MIGRATIONS).await.unwrap();
            assert_eq!(schema(&mut conn).await, new, "from version {version}");
            let row = conn.first(KEPT, []).await.unwrap().unwrap();
            assert_eq!(row.get::<String>("value").unwrap(), "yes");
            assert_eq!(check(&mut conn, MIGRATIONS).await.unwrap(), newest);
        }
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_version_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = database_of_version(1, &dir.path().join("rclaude.db")).await;
        let before = schema(&mut conn).await;
        let broken = Migration {
            script: "CREATE TABLE another (id TEXT) STRICT; CREATE TABLE session (id TEXT)",
            stamp: "PRAGMA user_version = 2",
        };
        let error = run_missing(&mut conn, &[Migration { ..MIGRATIONS[0] }, broken]).await;
        assert!(matches!(error, Err(StoreError::Internal(_))), "{error:?}");
        assert_eq!(schema(&mut conn).await, before);
        assert_eq!(check(&mut conn, MIGRATIONS).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_newer_programs_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rclaude.db");
        let mut conn = database_of_version(MIGRATIONS.len(), &path).await;
        conn.control("PRAGMA user_version = 999").await.unwrap();
        let before = schema(&mut conn).await;
        let error = crate::Store::open(&path).await.unwrap_err();
        let known = i64::try_from(MIGRATIONS.len()).unwrap();
        assert!(
            matches!(error, StoreError::NewerVersion { found: 999, known: ours } if ours == known),
            "{error:?}"
        );
        assert_eq!(schema(&mut conn).await, before);
    }

    #[tokio::test]
    async fn another_programs_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("tables.db", "CREATE TABLE cookies (name TEXT)"),
            ("version.db", "PRAGMA user_version = 1"),
            ("mark.db", "PRAGMA application_id = 252006674"),
        ] {
            let path = dir.path().join(name);
            let mut conn = sqlite::open_writer(&path).await.unwrap();
            conn.control(text).await.unwrap();
            let error = crate::Store::open(&path).await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt(_)), "{name}: {error:?}");
        }
    }
}
