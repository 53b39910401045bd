//! The host's end of a sandbox's network.
//!
//! A sandbox has a network of its own in which every destination is local, so that whatever its
//! programs dial lands on sockets that this server holds; there is no other way out. A program
//! may be honest (a proxy variable obeyed, a name in `Host` or SNI) or not look right or left:
//! both end here. What is let through is the model gateway. Everything else is refused, at once
//! and in the words of the protocol that was tried, so that an agent reads *why* instead of
//! waiting for a timeout:
//!
//! | what arrives | what it gets |
//! |---|---|
//! | HTTP/1 or HTTP/2 for the gateway, directly or as through a proxy | the gateway |
//! | any other HTTP, `CONNECT` included | `403` with a sentence |
//! | TLS | the alert `access_denied` |
//! | SSH | a disconnect message with the sentence |
//! | `git:` | an error line that git prints |
//! | anything else, or silence | the sentence as a line, and the end |
//!
//! Names are resolved to addresses of 198.18.0.0/15 ([`Names`]), so that a connection to one can
//! be called by its name.

mod connection;
mod dns;
mod names;
mod refusal;
mod report;
mod server;
mod sniff;
mod web;

pub use dns::answer as answer_dns;
pub use names::{GATEWAY_ADDRESS, Names};
pub use report::{Protocol, Refusal};
pub use server::{Egress, Gateway, OnRefused, OriginalDestination};
