//! Speaking to the daemon in a sandbox.
//!
//! One [`Client`] is one HTTP/2 connection over whatever byte path the provider dialled; cheap to
//! clone, with any number of requests side by side. It adds no retries: a lost link is told as
//! [`Error::Lost`], and every call is made so that the caller may simply make it again on a new
//! client (starts adopt, reads go by offset, writes to a process go by offset).
//!
//! The daemon runs among whatever the agent runs, so what it answers is bounded before it is
//! believed: JSON by [`MAX_JSON_BYTES`], records by their frame, everything else by the caller.

mod connection;
mod error;
mod files;
mod output;
mod ports;
mod processes;
mod terminals;

pub use connection::{Client, MAX_JSON_BYTES};
pub use error::{Error, Result};
pub use files::{Condition, Content, Listing, Part, Search, Untar, WriteOptions};
pub use output::{Output, OutputFrom, OutputStream};
pub use ports::PortStream;
pub use terminals::{Shown, TerminalFrom, TerminalStream};
