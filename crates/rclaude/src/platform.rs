//! What this program does itself rather than ask a server for: being the server, being the local
//! engine's supervisor, looking at the host, installing the agent, playing the model.
//!
//! Every call into the server's crates is here, and nothing else is.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rclaude_emulator::Emulator;
use rclaude_sandbox::local::{doctor, run_supervisor};
use rclaude_server::{
    Ready,
    agent::install::{Package, Source, Step},
    config::{LlmUpstream, ServeOptions, ServerFile},
};
use rclaude_types::HostCheck;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{cli::serve::ServeArgs, config::Settings, exit::Failure};

/// The verb that makes this program a supervisor.
pub(crate) const SUPERVISOR: &str = "__supervisor";

/// Whose API is spoken to unless told otherwise.
const ANTHROPIC: &str = "api.anthropic.com";

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::Failed(error.to_string())
}

/// Where a server in this data directory wrote down that it is reached.
pub(crate) fn local_server(data_dir: &Path) -> Option<Url> {
    ServerFile::read(data_dir).map(|file| file.url)
}

/// Runs the server until it is told to stop: INT or TERM once to end in order, twice at once.
pub(crate) async fn serve(
    args: &ServeArgs,
    settings: &Settings,
    ready: impl FnOnce(&Ready),
) -> Result<(), Failure> {
    let name = match args.llm_url.host_str() {
        Some(ANTHROPIC) => "anthropic".to_owned(),
        Some(host) => host.to_owned(),
        None => args.llm_url.to_string(),
    };
    let options = ServeOptions {
        listen: args.listen,
        data_dir: settings.data_dir(),
        llm: LlmUpstream {
            name,
            url: args.llm_url.clone(),
            api_key: settings.environment.get("ANTHROPIC_API_KEY").map(str::to_owned),
        },
        supervisor: vec![std::env::current_exe()?.into_os_string(), SUPERVISOR.into()],
        forge: args.forge.clone(),
    };
    let stop = CancellationToken::new();
    let mut interrupts = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut terminations = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut running = std::pin::pin!(rclaude_server::run(options, stop.clone(), ready));
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| failed(&error)),
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        if stop.is_cancelled() {
            return Err(Failure::Failed("stopped without waiting for requests".to_owned()));
        }
        stop.cancel();
    }
}

/// The local engine's supervisor. Called before any thread exists: it forks.
pub(crate) fn supervisor(engine: &Path) -> Result<(), Failure> {
    run_supervisor(engine).map_err(|error| failed(&error))
}

/// What this host can isolate.
pub(crate) fn host_checks(data_dir: &Path) -> Vec<HostCheck> {
    doctor::checks(data_dir)
}

/// Installs the pinned agent into a data directory, unless it is there; answers its version.
/// `step` is told what is being done. `tarball` was fetched elsewhere; without one it is fetched.
pub(crate) async fn install_agent(
    data_dir: &Path,
    tarball: Option<PathBuf>,
    mut step: impl FnMut(&'static str) + Send,
) -> Result<&'static str, Failure> {
    let package = Package::claude_code().map_err(|error| failed(&error))?;
    if tarball.is_none() && package.installed(data_dir).is_some() {
        return Ok(package.version);
    }
    let source = match tarball {
        Some(path) => Source::Tarball(path),
        None => Source::Registry { npm: PathBuf::from("npm") },
    };
    let told = |at| {
        step(match at {
            Step::Fetching => "fetching the agent (175 MB)",
            Step::Verifying => "checking the agent's digest",
            Step::Unpacking => "unpacking the agent (380 MB)",
        });
    };
    package.install(data_dir, &source, told).await.map_err(|error| failed(&error))?;
    Ok(package.version)
}

/// Whether the pinned agent is installed in a data directory.
pub(crate) fn agent(data_dir: &Path) -> Result<(&'static str, bool), Failure> {
    let package = Package::claude_code().map_err(|error| failed(&error))?;
    Ok((package.version, package.installed(data_dir).is_some()))
}

/// Runs the model emulator until INT or TERM; `ready` is told its URL.
pub(crate) async fn emulator(listen: SocketAddr, ready: impl FnOnce(&str)) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::Failed(format!("cannot listen on {listen}: {error}")))?;
    let emulator = Emulator::new().serve(listener)?;
    ready(&emulator.url());
    let mut interrupts = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut terminations = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
    emulator.shutdown().await;
    Ok(())
}
