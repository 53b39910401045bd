//! The vault as its callers have it, on real directories and over a real network.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may fail as it may")]

mod support;

mod archive;
mod complete;
mod damage;
mod documents;
mod kill;
mod open;
mod together;
mod trees;
