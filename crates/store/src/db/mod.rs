//! The one place that knows which database it is.
//!
//! Everything above speaks in [`Sql`] texts, [`Value`]s and [`Row`]s. The texts use `$n`
//! parameters and only what SQLite and PostgreSQL both understand, so that a second database is
//! one more variant of [`Engine`] and one more directory of migrations.

mod conn;
mod migrate;
mod read;
mod sqlite;
mod value;
mod write;

pub use conn::{Conn, Tx};
pub(crate) use conn::{Row, Sql, queries};
pub use read::Reader;
pub(crate) use read::Readers;
pub(crate) use sqlite::make_new_private as make_private;
pub(crate) use value::{Json, Value, label, unlabel};
pub(crate) use write::Writer;

use std::path::Path;

use crate::error::Result;

#[cfg(test)]
pub(crate) use migrate::ALL as MIGRATION_STATEMENTS;

/// Opens the connection that writes, with the schema up to date.
pub(crate) async fn open(path: &Path) -> Result<Conn> {
    let mut conn = sqlite::open_writer(path).await?;
    migrate::migrate(&mut conn).await?;
    Ok(conn)
}
