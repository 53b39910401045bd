//! The embedded engine: sandboxes as namespaces on this host.
//!
//! Two processes share the work. The *server* ([`LocalProvider`]) owns what lies on disk: it
//! writes down what is wanted, builds the writable directory, asks, and looks. The *supervisor*
//! ([`run_supervisor`]) owns what only a small single-threaded process in a mount namespace of
//! its own should do: cloning namespaces, mounting, joining cgroups, making sockets inside a
//! sandbox's network. It outlives the server, and sandboxes outlive both, because all that must
//! be known about a running one is in its directory (see [`layout`] and [`record`]).
//!
//! Freezing is the one thing done to a running sandbox that the server does itself (see
//! [`freeze`]): two writes that need no namespace.
//!
//! A fork from the server itself would cost in proportion to the server's memory, and every
//! mount of the host would be copied into each sandbox; that is why there are two.

mod cgroup;
mod client;
mod config;
pub mod doctor;
mod freeze;
mod freezer;
mod layers;
mod layout;
mod original;
mod pausing;
mod prepare;
mod protocol;
mod provider;
mod reclaim;
mod record;
mod remove;
mod supervisor;
mod sys;
mod template;

pub use config::LocalConfig;
pub use original::original_destination;
pub use provider::LocalProvider;
pub use supervisor::run_supervisor;

/// The daemon that is put into every sandbox, as the build embedded it.
pub const EMBEDDED_AGENTD: &[u8] = include_bytes!(env!("RCLAUDE_EMBEDDED_AGENTD"));
