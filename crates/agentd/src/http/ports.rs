//! Requests about ports.

use hyper::{Response, StatusCode, body::Incoming};
use rclaude_types::agentd::PortList;

use super::{Body, body};
use crate::{
    daemon::Daemon,
    ports,
    refusal::{Refusal, Result},
};

pub(super) async fn list(daemon: &Daemon) -> Result<Response<Body>> {
    body::json(StatusCode::OK, &PortList { data: ports::listening(daemon).await? })
}

pub(super) async fn connect(port: &str, arriving: Incoming) -> Result<Response<Body>> {
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| Refusal::invalid("a port is a number from 1 to 65535"))?;
    Ok(body::bytes(ports::connect(port, arriving).await?))
}
