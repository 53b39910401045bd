//! The store, over real files.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may fail as it may")]

mod support;

mod agent;
mod approval;
mod checkpoint;
mod clock;
mod complete;
mod disk_full;
mod event;
mod exec;
mod idempotency;
mod key;
mod kill;
mod lease;
mod meta;
mod migrate;
mod open;
mod sandbox;
mod session;
mod ssh_key;
mod turn;
mod usage;
mod writer;
