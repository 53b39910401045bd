//! The daemon as it is built, over its real socket, spoken to by the server's client.
//!
//! Not as PID 1 but where a test says so; as root it uses the user `agent` for everything, as
//! anybody else that user is whoever runs the tests.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that cannot go on fails its test")]

mod changes;
mod door;
mod files;
mod harness;
mod hostile;
mod output;
mod pid_one;
mod ports;
mod processes;
mod terminals;
mod trees;
