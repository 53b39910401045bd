//! Files, touched in the rights of whoever they are for.
//!
//! Every operation runs on a thread that has taken on the caller's file rights
//! ([`rights`](crate::sys::rights)), and every path is opened without following the kernel's magic
//! links (`/proc/self/fd/…`), which would lead into the daemon itself. What a link or a race can
//! reach is then no more than what the user could reach alone.

mod entry;
mod open;
mod pack;
mod tree;
mod unpack;
mod write;

use std::io;

pub(crate) use entry::{list, stat};
pub(crate) use open::open_file;
pub(crate) use pack::pack;
pub(crate) use tree::{make_directory, remove, rename};
pub(crate) use unpack::unpack;
pub(crate) use write::NewFile;

use crate::{
    refusal::{Doing, Result},
    sys::rights::{self, Rights},
};

/// Runs `work` on a thread for file work, in `rights`. `doing` completes "cannot …".
pub(crate) async fn job<T: Send + 'static>(
    rights: Rights,
    doing: String,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let job = tokio::task::spawn_blocking(move || rights::with(rights, work));
    job.await.map_err(io::Error::other).and_then(|done| done).doing(|| doing)
}
