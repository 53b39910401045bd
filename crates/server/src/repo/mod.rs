//! Repositories as layers of a sandbox's disk.
//!
//! Cloning costs seconds, mounting costs microseconds. So every repository is kept once as a bare
//! mirror, and every commit in use once as a prepared working tree whose git index already agrees
//! with its files. A session gets that tree as a read-only lower layer and borrows the mirror's
//! objects through git alternates: full history, a clean `git status`, nothing copied.
//!
//! ```text
//! repos/<hash of the cleaned URL>/
//!   mirror.git/                    every object ever fetched; never collected, so that borrowed
//!                                  objects cannot vanish under a session
//!   fetched                        the listing of refs that the mirror is known to hold
//!   checkouts/<commit>/layer/      workspace/… with workspace/.git, owned by the agent
//!   refs/<digest>/layer/           workspace/.git/packed-refs: the remote's branches and tags
//!   uncommitted/<session>-*/layer/ changed files of a local work tree, where asked for
//! ```
//!
//! Every tree appears under its final name by one rename, when it is complete; a process killed
//! halfway leaves only a temporary name, which the next one clears away. A machine that lost its
//! power may have lost files of a tree that had not reached the disk: such a tree is known by
//! having been made before the machine last started, and is made again.
//!
//! Git runs on the host only over data that the *owner* of this server named, with configuration
//! of ours. Nothing that a sandbox can write to is ever given to the host's git: a session's diff
//! is made by a script run inside the sandbox ([`diff`]).

mod cache;
mod carry;
mod checkout;
pub mod diff;
mod error;
mod git;
mod index;
mod listing;
mod lock;
mod mirror;
mod source;
mod tree;
mod uncommitted;

pub use cache::{Checkout, PrepareOptions, RepoCache};
pub use carry::StagedRoom;
pub use error::RepoError;
pub use source::DEFAULT_FORGE;
