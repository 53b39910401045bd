//! The vault as its callers have it, on real directories.

mod support;
mod trees;
