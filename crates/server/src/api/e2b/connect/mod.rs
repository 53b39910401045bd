//! The Connect protocol (<https://connectrpc.com/docs/protocol>) with its JSON codec, as much of
//! it as a server needs.
//!
//! A unary call is a `POST` of JSON answered with JSON. A streaming call is a row of
//! [envelopes](envelope) either way; a server's last one says how the stream ended, for the
//! status was sent long before. E2B's SDKs speak no other codec, so the messages are plain serde
//! types and no code is generated.

mod code;
mod envelope;
mod stream;
mod unary;

pub(super) use code::{Code, Error};
pub(super) use stream::{Incoming, Sender, at_once, incoming, respond};
pub(super) use unary::Unary;

/// Result of a call.
pub(super) type Result<T, E = Error> = std::result::Result<T, E>;

/// The most bytes of one message from a client. A message of input is at most a few MiB in the
/// SDKs; base64 makes a third more of it.
const MAX_MESSAGE: usize = 64 << 20;
