//! Ports on which programs in a session listen.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

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

/// A port, and its preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionPort {
    /// What listens.
    #[serde(flatten)]
    pub port: Port,
    /// Where it is seen in a browser, by whoever may.
    pub url: String,
    /// Whether that is everybody who can reach the server.
    pub public: bool,
}

/// Body of `PUT /v1/sessions/{session}/ports/{port}/preview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Preview {
    /// Whether everybody who can reach the server may see it.
    pub public: bool,
}

/// Body of `POST /v1/sessions/{session}/ports/{port}/links`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatePortLink {
    /// Seconds for which it is good.
    #[serde(default = "CreatePortLink::default_seconds")]
    #[cfg_attr(
        feature = "openapi",
        schema(minimum = 1, maximum = 2_592_000, default = 43_200, required = false)
    )]
    pub expires_in_seconds: u32,
}

impl CreatePortLink {
    /// A month.
    pub const MAX_SECONDS: u32 = 2_592_000;

    /// Half a day.
    #[must_use]
    pub const fn default_seconds() -> u32 {
        43_200
    }
}

/// A link to a port's preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PortLink {
    /// Lets whoever opens it see the preview.
    pub url: String,
    /// Until then.
    pub expires_at: Timestamp,
}
