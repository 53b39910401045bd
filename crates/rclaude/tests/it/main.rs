//! The program as its users start it.

mod client;
mod support;
