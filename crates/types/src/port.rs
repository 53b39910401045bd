//! Ports on which programs in a session listen.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A TCP port on which a program in the session waits for connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// The addresses it is bound to; `0.0.0.0` and `::` are all of them.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// The name of the program that has it open; of the first, if several share it.
    pub process: String,
    /// Its process id, as the session numbers it.
    pub pid: u32,
}
