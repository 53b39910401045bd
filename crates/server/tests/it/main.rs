//! The server's tests over real parts, one binary.

mod agent;
