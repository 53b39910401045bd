//! Files, touched in the rights of whoever they are for.
//!
//! Every operation runs on a thread that has taken on the caller's file rights
//! ([`rights`](crate::sys::rights)), and every path is opened without following the kernel's magic
//! links (`/proc/self/fd/…`), which would lead into the daemon itself. What a link or a race can
//! reach is then no more than what the user could reach alone; the sandbox's root is the
//! daemon's own, so there is nothing beyond it to lead to.

mod change;
mod copy;
mod entry;
mod ignored;
mod list;
mod read;
mod search;
mod tree;
mod walk;
mod watch;
mod write;

use std::io;

pub(crate) use change::{change, link};
pub(crate) use copy::copy;
pub(crate) use entry::{followed, stat};
pub(crate) use list::{Listing, list};
pub(crate) use read::{Opened, open_file};
pub(crate) use search::{Search, search};
pub(crate) use tree::{make_directory, remove, rename};
pub(crate) use watch::{Watcher, Watching};
pub(crate) use write::{CHANGED, Condition, NewFile, Patch};

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
