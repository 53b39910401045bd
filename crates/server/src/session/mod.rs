//! The session engine.

pub mod manager;
