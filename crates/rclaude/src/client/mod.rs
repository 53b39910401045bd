//! The API from its caller's side: typed calls, and streams that outlive their connections.

mod checkpoints;
mod events;
mod execs;
mod files;
mod http;
mod ports;
mod socket;
mod storage;
mod terminals;

pub(crate) use events::{Entry, Progress, follow};
pub(crate) use execs::{ExecLine, exec_output};
pub(crate) use files::{Fetched, Replace, Wanted, real_path, real_target};
pub(crate) use http::{Answer, Client, read};
pub(crate) use ports::relay;
pub(crate) use storage::ArchiveKey;
pub(crate) use terminals::{Doing, Ending, Place, Teller, Told, attach};
