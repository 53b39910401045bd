//! Speaking to the daemon in a sandbox.
