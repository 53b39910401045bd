//! The model gateway: the only way from a sandbox to the model API.
//!
//! An agent knows one address and one token, and both are good for its own session alone. The
//! gateway checks the token, puts the server's own key in its place and forwards the request;
//! the answer goes back as it comes. Bodies pass byte by byte unchanged in both directions, since
//! agents and the API agree on fields and features that no proxy in between can keep up with.
//! What the gateway wants to know (the model, the tokens) it reads from a copy that flows past.
//!
//! Invariants, each with its tests:
//! - the server's key never reaches the sandbox, not even in an upstream's complaint about it;
//! - a token works for its session alone, and only on that session's own connections;
//! - every request that was forwarded leaves one [`UsageRecord`], however it ended: whole, cut by
//!   the API, or abandoned by the agent. It is under way before the agent can see the answer's
//!   end, so that [`Gateway::recorded`] after an agent's turn misses nothing;
//! - an answer of the gateway's own looks like the API's, says what to do, and asks not to be
//!   retried where retrying cannot help.
//!
//! Accepting connections, and knowing whose they are, is left to the caller.

mod body;
mod error;
mod forward;
mod headers;
mod in_flight;
mod meter;
mod prices;
mod record;
mod refusal;
mod scan;
mod sse;
mod token;
mod upstream;
mod usage;

pub use error::GatewayError;
pub use forward::Gateway;
pub use prices::{Consumption, Price, price, price_version};
pub use record::{UsageRecord, UsageSink};
pub use token::SessionTokens;
pub use upstream::{Credential, GatewayConfig};
