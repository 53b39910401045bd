//! What listens in the sandbox.

use serde::{Deserialize, Serialize};

use crate::Port;

/// Answer to `GET /v1/ports`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortList {
    /// By number.
    pub data: Vec<Port>,
}
