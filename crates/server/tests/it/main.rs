//! The server's rooms as their callers meet them: over real sockets, with a real git.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that cannot go on fails its test")]

mod agent;
mod api;
mod egress;
mod gateway;
mod repo;
