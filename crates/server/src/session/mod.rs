//! The session engine: what keeps every session where its owner wants it.
//!
//! [`lifecycle`] decides, purely; one `actor` per session does what it says, and sees to the
//! agent; [`manager`] is the door that the API calls. The store holds the truth: whatever an actor
//! knows beyond it can be made again.

mod actor;
mod agent_life;
mod agent_run;
mod brake;
mod checkpoint;
pub(crate) mod engine;
mod events;
pub(crate) mod expiry;
mod feeder;
pub(crate) mod heartbeat;
pub(crate) mod inside;
pub mod lifecycle;
mod link;
pub(crate) mod live;
mod log;
pub mod manager;
mod names;
mod outbound;
pub mod policy;
mod rest;
mod run_state;
mod setup;
mod steps;
pub(crate) mod sweep;
mod turns;
