//! The HTTP interface, from outside: a whole server on a port of its own. Its sandbox engine has
//! no launcher, so sessions are made, found, steered and told of, and never come up.

mod access;
mod checkpoints;
mod contract;
mod events;
mod problems;
mod rig;
mod serving;
mod sessions;
mod sockets;
