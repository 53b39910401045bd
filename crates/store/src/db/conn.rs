//! A connection, a transaction on one, and the texts they run.

use std::ops::{Deref, DerefMut};

use super::{
    sqlite,
    value::{Column, Value},
};
use crate::error::{Result, StoreError};

/// A statement's text. Only [`queries!`] makes one, so that each can be checked against the
/// schema by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sql {
    /// Where it is from: module and constant.
    pub(crate) name: &'static str,
    /// What is run.
    pub(crate) text: &'static str,
}

/// Declares a room's statements as constants, and lists them in `ALL`.
macro_rules! queries {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $(
            $(#[$doc])*
            const $name: $crate::db::Sql = $crate::db::Sql {
                name: concat!(module_path!(), "::", stringify!($name)),
                text: $text,
            };
        )*
        /// Every statement of this room.
        #[cfg(test)]
        pub(crate) const ALL: &[$crate::db::Sql] = &[$($name),*];
    };
}
pub(crate) use queries;

/// Which database it is.
#[derive(Debug)]
pub(super) enum Engine {
    /// A file beside us.
    Sqlite(sqlx::SqliteConnection),
}

/// A connection to read by. What takes `&mut Conn` also takes a [`Tx`].
#[derive(Debug)]
pub struct Conn {
    engine: Engine,
    /// Set by an error that ends the transaction under us. What ran after it would be committed
    /// statement by statement, so nothing more is run.
    lost: Option<StoreError>,
}

impl Conn {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, lost: None }
    }

    /// Runs a statement for its effect; how many rows it changed.
    pub(crate) async fn run<const N: usize>(
        &mut self,
        sql: Sql,
        values: [Value; N],
    ) -> Result<u64> {
        self.guard()?;
        let outcome = match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::run(conn, sql, values).await,
        };
        self.note(outcome)
    }

    /// The first row, if there is one.
    pub(crate) async fn first<const N: usize>(
        &mut self,
        sql: Sql,
        values: [Value; N],
    ) -> Result<Option<Row>> {
        self.guard()?;
        let outcome = match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::first(conn, sql, values).await,
        };
        self.note(outcome)
    }

    /// All rows.
    pub(crate) async fn all<const N: usize>(
        &mut self,
        sql: Sql,
        values: [Value; N],
    ) -> Result<Vec<Row>> {
        self.guard()?;
        let outcome = match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::all(conn, sql, values).await,
        };
        self.note(outcome)
    }

    /// Runs a text of our own making that needs no preparing: transaction control, migrations.
    pub(super) async fn control(&mut self, text: &'static str) -> Result<()> {
        match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::control(conn, text).await,
        }
    }

    /// Checks that the database understands a text, without running it.
    #[cfg(test)]
    pub(crate) async fn prepare(&mut self, sql: Sql) -> Result<()> {
        match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::prepare(conn, sql).await,
        }
    }

    /// How the database would go about a text: one line for each table it touches.
    #[cfg(test)]
    pub(crate) async fn plan(&mut self, sql: Sql) -> Result<Vec<String>> {
        match &mut self.engine {
            Engine::Sqlite(conn) => sqlite::plan(conn, sql).await,
        }
    }

    /// Closes the connection, waiting for the database to let go of its files.
    pub(super) async fn close(self) -> Result<()> {
        match self.engine {
            Engine::Sqlite(conn) => sqlite::close(conn).await,
        }
    }

    /// Forgets a lost transaction: the next one begins afresh.
    pub(super) fn renew(&mut self) {
        self.lost = None;
    }

    /// The error that lost the transaction, if one did.
    pub(super) fn lost(&self) -> Option<&StoreError> {
        self.lost.as_ref()
    }

    fn guard(&self) -> Result<()> {
        self.lost.clone().map_or(Ok(()), Err)
    }

    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && error.is_fatal_to_transaction()
        {
            self.lost = Some(error.clone());
        }
        outcome
    }
}

/// A transaction to write by. It is handed to the work given to [`Store::write`], and what that
/// work did is kept as a whole or not at all.
///
/// [`Store::write`]: crate::Store::write
#[derive(Debug)]
pub struct Tx(Conn);

impl Tx {
    pub(super) fn new(conn: Conn) -> Self {
        Self(conn)
    }

    pub(super) fn into_conn(self) -> Conn {
        self.0
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.0
    }
}

/// A row of an answer.
#[derive(Debug)]
pub(crate) enum Row {
    /// Of a file beside us.
    Sqlite(sqlx::sqlite::SqliteRow),
}

impl Row {
    /// The value in the column of that name.
    pub(crate) fn get<T: Column>(&self, column: &'static str) -> Result<T> {
        let value = match self {
            Self::Sqlite(row) => sqlite::value(row, column)?,
        };
        T::read(value).map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
    }

    /// The word of an enumeration in the column of that name.
    pub(crate) fn word<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        super::unlabel(self.get(column)?)
            .map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
    }

    /// The same where there may be none.
    pub(crate) fn word_if_any<T: serde::de::DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>> {
        self.get::<Option<String>>(column)?
            .map(super::unlabel)
            .transpose()
            .map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
    }
}
