//! The program as its users start it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, helpers of tests too"
)]

mod agent_script;
mod approvals;
mod archives;
mod backups;
mod bad_input;
mod chaos;
mod client;
mod e2b;
mod faults;
mod follower;
mod isolation;
mod journeys;
mod model;
mod platform;
mod ports;
mod previews;
mod serve;
mod shell;
mod ssh;
mod store_away;
mod support;
mod terminal;
mod verbs;
