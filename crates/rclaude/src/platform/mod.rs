//! What this program does itself rather than ask a server for: being the server, being the local
//! engine's supervisor, looking at the host, installing the agent, playing the model.
//!
//! Every call into the server's crates is here, and nothing else is.

mod policy;
pub(crate) mod snapshots;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rclaude_emulator::{Emulator, EmulatorHandle};
use rclaude_sandbox::local;
use rclaude_server::{
    Ready,
    agent::install::{Package, Source, Step},
    config::{LlmUpstream, ServeOptions, ServerFile},
};
use rclaude_types::HostCheck;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{cli::serve::ServeArgs, config::Settings, exit::Failure};

/// The verb that makes this program a supervisor.
pub(crate) const SUPERVISOR: &str = "__supervisor";

/// How long a server that ends waits for what cannot be broken off.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Where a server in this data directory wrote down that it is reached.
pub(crate) fn local_server(data_dir: &Path) -> Option<Url> {
    ServerFile::read(data_dir).map(|file| file.url)
}

/// Runs the server until it is told to stop by SIGINT or SIGTERM; told twice it does not wait for
/// what is under way.
pub(crate) fn serve(
    args: &ServeArgs,
    settings: &Settings,
    ready: impl FnOnce(&Ready),
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let stop = CancellationToken::new();
        // Held for as long as the server runs.
        let emulator =
            if args.emulator { Some(emulate(([127, 0, 0, 1], 0).into()).await?) } else { None };
        let options = ServeOptions {
            listen: args.listen.unwrap_or_else(|| settings.listen()),
            ssh: args.ssh.or_else(|| settings.ssh()),
            data_dir: settings.data_dir(),
            llm: upstream(args, settings, emulator.as_ref())?,
            supervisor: vec![std::env::current_exe()?.into(), SUPERVISOR.into()],
            forge: args.forge.to_string(),
            preview_url: args.preview_url.clone(),
            policy: policy::of(&args.policy, settings),
            snapshots: snapshots::options(args, settings)?,
            disk_image: args.disk_image.map(|mib| u64::from(mib) << 20),
        };
        let server = rclaude_server::run(options, stop.clone(), ready);
        let mut server = std::pin::pin!(server);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                ended = &mut server => {
                    return ended.map_err(|error| Failure::Failed(error.to_string()));
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                let why = "stopped without waiting for what was under way";
                return Err(Failure::Failed(why.to_owned()));
            }
            stop.cancel();
        }
    });
    // A layer on its way to a store that is slow or away is begun anew by the next server.
    runtime.shutdown_timeout(LAST_WORDS);
    served
}

fn upstream(
    args: &ServeArgs,
    settings: &Settings,
    emulator: Option<&EmulatorHandle>,
) -> Result<LlmUpstream, Failure> {
    if let Some(emulator) = emulator {
        let url =
            Url::parse(&emulator.url()).map_err(|error| Failure::Failed(error.to_string()))?;
        let api_key = Some("emulated".to_owned());
        return Ok(LlmUpstream { name: "emulator".to_owned(), url, api_key });
    }
    let url = args.llm_url.clone();
    let name = match url.host_str() {
        Some("api.anthropic.com") => "anthropic".to_owned(),
        _ => url.to_string(),
    };
    let api_key = settings.environment.get("ANTHROPIC_API_KEY").map(str::to_owned);
    Ok(LlmUpstream { name, url, api_key: api_key.filter(|key| !key.trim().is_empty()) })
}

/// The local engine's supervisor. Called before any thread exists: it forks.
pub(crate) fn supervisor(engine: &Path) -> Result<(), Failure> {
    Ok(local::run_supervisor(engine)?)
}

/// A new key pair for a user: the private file, and the line of the public one.
pub(crate) fn new_ssh_identity() -> Result<(String, String), Failure> {
    let made = rclaude_server::ssh::new_identity("rclaude")?;
    Ok((made.private, made.public))
}

/// What this host can isolate.
pub(crate) fn host_checks(data_dir: &Path) -> Vec<HostCheck> {
    local::doctor::checks(data_dir)
}

/// Installs the pinned agent into a data directory, unless it is there; answers its version.
/// Fetched by the host's npm client, or taken from a tarball of the same package. `step` is told
/// what is being done.
pub(crate) async fn install_agent(
    data_dir: &Path,
    tarball: Option<PathBuf>,
    mut step: impl FnMut(&'static str) + Send,
) -> Result<&'static str, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Failed(error.to_string());
    let package = Package::claude_code().map_err(|error| failed(&error))?;
    if package.installed(data_dir).is_none() {
        let source = match tarball {
            Some(path) => Source::Tarball(path),
            None => Source::Registry { npm: "npm".into() },
        };
        let told = |at| {
            step(match at {
                Step::Fetching => "fetching the agent (175 MB)",
                Step::Verifying => "checking the agent's digest",
                Step::Unpacking => "unpacking the agent (380 MB)",
            });
        };
        package.install(data_dir, &source, told).await.map_err(|error| failed(&error))?;
    }
    Ok(package.version)
}

/// The pinned agent's version, and whether it is installed in a data directory.
pub(crate) fn agent(data_dir: &Path) -> Result<(&'static str, bool), Failure> {
    let package = Package::claude_code().map_err(|error| Failure::Failed(error.to_string()))?;
    Ok((package.version, package.installed(data_dir).is_some()))
}

/// Runs the model emulator until it is told to stop.
pub(crate) async fn emulator(
    listen: SocketAddr,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    let emulator = emulate(listen).await?;
    ready(emulator.address());
    tokio::signal::ctrl_c().await?;
    emulator.shutdown().await;
    Ok(())
}

async fn emulate(listen: SocketAddr) -> Result<EmulatorHandle, Failure> {
    Ok(Emulator::new().serve(TcpListener::bind(listen).await?)?)
}

/// Makes the repository that the emulator knows how to repair: a small Python project with one
/// failing test, committed.
pub(crate) fn write_demo(directory: &Path) -> Result<(), Failure> {
    fs::create_dir(directory).map_err(|error| {
        Failure::Failed(format!("cannot make {}: {error}", directory.display()))
    })?;
    for (path, content) in rclaude_emulator::demo_repository() {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)?;
    }
    let steps: [&[&str]; 3] = [
        &["init", "--quiet", "--initial-branch=main"],
        &["add", "--all"],
        &["commit", "--quiet", "--message", "A calculator, and a test that fails"],
    ];
    for step in steps {
        let status = Command::new("git")
            .current_dir(directory)
            .args(["-c", "user.name=Demo", "-c", "user.email=demo@example.invalid"])
            .args(step)
            .status()?;
        if !status.success() {
            return Err(Failure::Failed(format!("git {} failed", step[0])));
        }
    }
    Ok(())
}
