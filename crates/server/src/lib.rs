//! The platform: API, session engine, model gateway, egress, repositories.

pub mod agent;
pub mod api;
pub mod auth;
mod chain;
pub mod clock;
pub mod config;
mod crash;
pub mod egress;
pub mod gateway;
mod host;
mod info;
mod metering;
mod preview;
pub mod repo;
mod run;
pub mod session;
pub mod snapshots;
pub mod ssh;

pub use run::{Ready, ServeError, run};
