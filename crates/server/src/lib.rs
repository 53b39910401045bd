//! The platform: API, session engine, model gateway, egress, repositories.

pub mod agent;
pub mod api;
pub mod clock;
pub mod egress;
pub mod gateway;
pub mod repo;
pub mod session;
