//! Sessions over SSH: `ssh`, `scp`, `sftp`, `rsync` and whatever is built on them.
//!
//! A client's user name is the session, its public key the way in. What it then asks for is done
//! by what the API uses as well: a shell is one of our terminals, a command a process of the
//! sandbox's daemon, the `sftp` subsystem speaks to the daemon's files, a forwarded
//! connection goes to a port of the sandbox. Nothing runs on the host.
//!
//! An SSH client is not trusted with more than its session: channels, variables, packets and
//! queues are bounded, and one that stalls holds up its own connection alone.
//!
//! What goes out waits for the client: a channel's window is kept by its writer
//! ([`outlet`]), and nothing is queued behind it. What comes in waits for the sandbox: the library
//! opens a window again as soon as it has read a packet, so a channel whose reader has fallen
//! [`input::ROOM`] behind slows the whole connection down: packets are then taken ever more slowly,
//! and after about half an hour without any being read the connection is broken off.

mod channel;
mod command;
mod connection;
mod forward;
mod host_key;
mod input;
mod keys;
mod outlet;
mod serve;
mod sftp;
mod terminal;

pub use host_key::{Identity, new_identity};
pub use keys::SshKeys;
pub(crate) use serve::{Door, serve};
