//! What this program does itself rather than ask a server for: being the server, being the local
//! engine's supervisor, looking at the host, installing the agent, playing the model.
//!
//! Every call into the server's crates is here, and nothing else is.

use std::{ffi::OsString, net::SocketAddr, path::Path};

use rclaude_types::HostCheck;

use crate::{cli::serve::ServeArgs, config::Settings, exit::Failure};

/// Runs the server until it is told to stop.
pub(crate) fn serve(_options: &ServeArgs, _settings: &Settings) -> Result<(), Failure> {
    Err(absent("the server"))
}

/// The local engine's supervisor. Called before any thread exists: it forks.
pub(crate) fn supervisor(_arguments: &[OsString]) -> Result<(), Failure> {
    Err(absent("the sandbox engine"))
}

/// What this host can isolate.
pub(crate) fn host_checks(_data_dir: &Path) -> Result<Vec<HostCheck>, Failure> {
    Err(absent("the sandbox engine"))
}

/// Installs the pinned agent into a data directory, unless it is there; answers its version.
pub(crate) async fn install_agent(_data_dir: &Path) -> Result<String, Failure> {
    Err(absent("the agent's installer"))
}

/// Runs the model emulator until it is told to stop.
pub(crate) async fn emulator(_listen: SocketAddr) -> Result<(), Failure> {
    Err(absent("the model emulator"))
}

fn absent(what: &str) -> Failure {
    Failure::Failed(format!("this build comes without {what}"))
}
