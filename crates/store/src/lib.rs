//! The durable memory of Remote Claude: one module of functions per aggregate, over one database.
//!
//! A function that looks takes `&mut Conn`, one that changes takes `&mut Tx`; a [`Tx`] is a
//! [`Conn`] as well, so a change can look first. Callers see rows in terms of
//! [`rclaude_types`], never the database's own types: which database it is, and how its errors
//! are spelt, stays in the `db` room.
//!
//! The store refuses stale and impossible writes and decides nothing. Ids and moments are given
//! to it; it makes up none.
//!
//! ```no_run
//! # async fn example(path: &std::path::Path, id: rclaude_types::SessionId) -> rclaude_store::Result<()> {
//! use rclaude_store::{Store, session};
//!
//! let store = Store::open(path).await?;
//! let mut conn = store.read().await?;
//! let row = session::get(&mut conn, &id).await?;
//! store
//!     .write(async move |tx| session::set_failure(tx, &row.id, None, row.updated_at).await)
//!     .await?;
//! # Ok(())
//! # }
//! ```

mod db;
mod error;
mod store;

#[cfg(test)]
mod statements;

pub mod agent;
pub mod approval;
pub mod carry;
pub mod checkpoint;
pub mod clock;
pub mod event;
pub mod exec;
pub mod idempotency;
pub mod key;
pub mod lease;
pub mod meta;
pub mod port;
pub mod sandbox;
pub mod session;
pub mod ssh_key;
pub mod turn;
pub mod usage;

pub use db::{Conn, Reader, Tx};
pub use error::{Result, StoreError};
pub use store::Store;
