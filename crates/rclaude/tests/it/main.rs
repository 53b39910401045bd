//! The program as its users start it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, helpers of tests too")]

mod client;
mod faults;
mod follower;
mod journeys;
mod platform;
mod support;
mod verbs;
