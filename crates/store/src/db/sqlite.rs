//! SQLite, by way of sqlx: how it is opened, what its errors mean, how its rows are read.

use std::{path::Path, time::Duration};

use sqlx::{
    Connection, Decode, Row as _, Sqlite, SqliteConnection, TypeInfo, ValueRef,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
};

use super::conn::{Conn, Engine, Row, Sql};
use super::value::Value;
use crate::error::{Result, StoreError};

/// How long to wait for another process that holds the lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// More than all our statements, so that each is prepared once per connection.
const STATEMENTS: usize = 256;

/// Opens the connection that writes, making the file if there is none.
///
/// `synchronous = FULL` makes every commit wait for the disk: what was acknowledged survives a
/// power cut. The write-ahead log lets readers go on meanwhile; it is cut back to 64 MiB once a
/// checkpoint has emptied it.
pub(super) async fn open_writer(path: &Path) -> Result<Conn> {
    make_private(path)?;
    let options = options(path)
        .create_if_missing(true)
        .pragma("journal_mode", "WAL")
        .pragma("synchronous", "FULL")
        .pragma("journal_size_limit", "67108864");
    connect(&options, path).await
}

/// Opens a connection that only reads.
pub(super) async fn open_reader(path: &Path) -> Result<Conn> {
    connect(&options(path).read_only(true), path).await
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        // Savepoints and sorts would else spill into files of another directory.
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(STATEMENTS)
        .thread_name(|id| format!("sqlite-{id}"))
}

async fn connect(options: &SqliteConnectOptions, path: &Path) -> Result<Conn> {
    let conn =
        SqliteConnection::connect_with(options).await.map_err(|error| match translate(&error) {
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("{}: {why}", path.display()))
            }
            StoreError::Corrupt(why) => StoreError::Corrupt(format!("{}: {why}", path.display())),
            other => other,
        })?;
    Ok(Conn::new(Engine::Sqlite(conn)))
}

/// Makes the file readable by its owner alone before SQLite makes it by its own rules; the log
/// beside it inherits the mode. It holds the daemons' tokens.
fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Err(StoreError::DiskFull),
        Err(error) => Err(StoreError::Unavailable(format!("{}: {error}", path.display()))),
    }
}

/// Makes a file that does not exist, for its owner alone; SQLite copies into an empty one.
pub(crate) fn make_new_private(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(StoreError::Conflict(format!("{} exists", path.display())));
    }
    make_private(path)
}

fn query<const N: usize>(sql: Sql, values: [Value; N]) -> Query<'static, Sqlite, SqliteArguments> {
    values.into_iter().fold(sqlx::query(sql.text), |query, value| match value {
        Value::Null => query.bind(None::<i64>),
        Value::Integer(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Blob(bytes) => query.bind(bytes),
    })
}

pub(super) async fn run<const N: usize>(
    conn: &mut SqliteConnection,
    sql: Sql,
    values: [Value; N],
) -> Result<u64> {
    let done = query(sql, values).execute(conn).await;
    done.map(|done| done.rows_affected()).map_err(|error| translate(&error))
}

pub(super) async fn first<const N: usize>(
    conn: &mut SqliteConnection,
    sql: Sql,
    values: [Value; N],
) -> Result<Option<Row>> {
    let row = query(sql, values).fetch_optional(conn).await;
    row.map(|row| row.map(Row::Sqlite)).map_err(|error| translate(&error))
}

pub(super) async fn all<const N: usize>(
    conn: &mut SqliteConnection,
    sql: Sql,
    values: [Value; N],
) -> Result<Vec<Row>> {
    let rows = query(sql, values).fetch_all(conn).await;
    rows.map(|rows| rows.into_iter().map(Row::Sqlite).collect()).map_err(|error| translate(&error))
}

pub(super) async fn control(conn: &mut SqliteConnection, text: &'static str) -> Result<()> {
    sqlx::raw_sql(text).execute(conn).await.map(drop).map_err(|error| translate(&error))
}

#[cfg(test)]
pub(super) async fn prepare(conn: &mut SqliteConnection, sql: Sql) -> Result<()> {
    use sqlx::{Executor, SqlSafeStr};
    let prepared = conn.prepare(sql.text.into_sql_str()).await;
    prepared.map(drop).map_err(|error| translate(&error))
}

/// How a text would be run: one line for each table it touches.
#[cfg(test)]
pub(super) async fn plan(conn: &mut SqliteConnection, sql: Sql) -> Result<Vec<String>> {
    let text = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.text));
    let rows = sqlx::query(text).fetch_all(conn).await.map_err(|error| translate(&error))?;
    rows.iter().map(|row| row.try_get("detail").map_err(|error| translate(&error))).collect()
}

pub(super) async fn close(conn: SqliteConnection) -> Result<()> {
    conn.close().await.map_err(|error| translate(&error))
}

/// Reads one value. Tables are STRICT, so the storage class is the column's.
pub(super) fn value(row: &SqliteRow, column: &'static str) -> Result<Value> {
    let raw = row.try_get_raw(column).map_err(|error| translate(&error))?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let read = match raw.type_info().name() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(raw).map(Value::Integer),
        "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(raw).map(Value::Blob),
        _ => <String as Decode<Sqlite>>::decode(raw).map(Value::Text),
    };
    read.map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

/// What an error means to a caller. Codes are SQLite's (<https://sqlite.org/rescode.html>).
fn translate(error: &sqlx::Error) -> StoreError {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                StoreError::DiskFull
            }
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => {
                StoreError::Unavailable(error.to_string())
            }
            _ => StoreError::Internal(error.to_string()),
        };
    };
    let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    let message = database.message().to_owned();
    // The low byte is the class, the rest says more of it.
    match code & 0xff {
        FULL => StoreError::DiskFull,
        _ if code == IOERR_SHMSIZE => StoreError::DiskFull,
        PERM | BUSY | LOCKED | READONLY | IOERR | CANTOPEN => StoreError::Unavailable(message),
        CORRUPT | NOTADB => StoreError::Corrupt(message),
        CONSTRAINT => StoreError::Conflict(message),
        _ => StoreError::Internal(message),
    }
}

const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOTADB: i32 = 26;
/// The log's index could not grow: on a full disk this comes in place of `FULL`.
const IOERR_SHMSIZE: i32 = 4874;
