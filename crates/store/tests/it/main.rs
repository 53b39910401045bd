//! The store, over real files.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as its body may")]

mod support;

mod session;
