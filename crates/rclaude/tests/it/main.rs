//! The program as its users start it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers of tests too"
)]

mod bad_input;
mod client;
mod faults;
mod follower;
mod journeys;
mod platform;
mod serve;
mod support;
mod terminal;
mod verbs;
