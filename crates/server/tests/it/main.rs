//! The server's rooms, each through its public door.

mod repo;
