//! The vault as its callers have it, on real directories and over a real network.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as it may")]

mod support;

mod archive;
mod complete;
mod damage;
mod documents;
mod kill;
mod open;
mod restic;
mod s3;
mod together;
mod trees;
