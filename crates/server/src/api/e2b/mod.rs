//! The E2B door: what programs written with E2B's SDKs speak, over sessions of ours.
//!
//! Two planes on the server's one port. The [control plane](mod@control) makes, finds and ends
//! sandboxes; an E2B sandbox *is* a session, lent out under a [lease](rclaude_store::lease). The
//! data plane is what E2B's daemon `envd` answers inside a sandbox ([`envd`], over the Connect
//! protocol of [`connect`]): requests that [name a sandbox](target) by their host or headers
//! never reach our own routes. It is spoken here and not in the sandbox: one place checks who may
//! what, every provider has it, and our daemon stays as small as it is.
//!
//! The contract is E2B's own (`spec/openapi.yml`, `envd.yaml`, `process.proto` and
//! `filesystem.proto` of its public repositories, and what its SDKs were seen to send), so none of
//! it is in ours. What cannot be done is refused in words, never left out in silence.

mod access;
mod connect;
mod control;
mod envd;
mod id;
mod measured;
mod port;
mod signed;
mod target;
mod token;
mod words;

pub(super) use target::{Planes, dispatch, domain};

use axum::Router;

use super::Api;

/// What E2B's SDKs take for the version of the daemon in a sandbox; it tells them what it can.
const ENVD_VERSION: &str = "0.6.4";
/// The port at which a sandbox's daemon is asked for.
const ENVD_PORT: u16 = 49983;

/// The header with a sandbox's token.
const TOKEN: &str = "x-access-token";

/// What the door keeps while the server runs. All of it can be made again, or is of no more use
/// after a restart.
#[derive(Debug)]
pub struct Door {
    tokens: token::Tokens,
    desks: envd::Desks,
}

impl Door {
    /// With the server's secret.
    pub fn new(secret: &[u8]) -> Self {
        Self { tokens: token::Tokens::new(secret), desks: envd::Desks::default() }
    }
}

/// The control plane's routes, beside our own.
pub(super) fn control(api: &Api) -> Router<Api> {
    control::routes(api)
}

/// Both planes, to tell them apart.
pub(super) fn planes(api: &Api) -> Planes {
    Planes { api: api.clone(), daemon: envd::routes().with_state(api.clone()) }
}
