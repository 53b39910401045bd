//! The server's rooms, each through its public door.
#![expect(clippy::unwrap_used, reason = "in a test's helper, too, a failed step fails the test")]

mod egress;
mod repo;
