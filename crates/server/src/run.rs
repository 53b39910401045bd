//! Putting a server together, and taking it down.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rclaude_sandbox::{
    local::{LocalConfig, LocalProvider},
    provider::SandboxProvider,
};
use rclaude_store::{Store, StoreError, checkpoint, sandbox};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    api::{self, ApiState, Door, Hosts},
    auth::{Auth, Keys, owner_token},
    chain::chain,
    clock::{Clock, SystemClock},
    config::{DataDir, DataDirError, ServeOptions, ServerFile},
    gateway::{Credential, Gateway, GatewayConfig, GatewayError, SessionTokens},
    info::Info,
    metering::StoredUsage,
    preview::Previews,
    repo::{RepoCache, RepoError},
    session::{engine::Engine, expiry, heartbeat, live::Live, manager::SessionManager, sweep},
    snapshots::{self, Snapshots},
    ssh::{self, SshKeys},
};

/// How long requests under way may take to end when the server goes down.
const DRAIN: Duration = Duration::from_secs(10);
/// How often recorded metrics are summed up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database.
    #[error("cannot open the database: {0}")]
    Store(#[from] StoreError),
    /// The address.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The address for SSH clients, or the server's key.
    #[error("cannot let SSH clients in at {address}: {source}; choose another with --ssh")]
    Ssh {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The repository cache.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The model gateway.
    #[error("cannot set up the model gateway: {0}")]
    Gateway(#[from] GatewayError),
    /// The sandbox engine.
    #[error("cannot start the sandbox engine: {0}")]
    Engine(String),
    /// A restore that was not finished.
    #[error("{0} holds a restore that was not finished: run `rclaude restore` again")]
    Restoring(PathBuf),
    /// A file of the data directory.
    #[error("cannot use the data directory: {0}")]
    Io(#[from] io::Error),
}

/// A server that is up.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where it listens.
    pub url: Url,
    /// Where it lets SSH clients in.
    pub ssh: Option<SocketAddr>,
    /// Sessions taken up again.
    pub sessions: usize,
}

/// The program's metrics; a second server in one process shares the first one's.
fn metrics_recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _ = metrics::set_global_recorder(recorder);
    handle
}

/// What was made last sorts last, also when the host's clock was set back since.
async fn continue_ids(store: &Store) -> Result<(), StoreError> {
    let mut conn = store.read().await?;
    if let Some(id) = sandbox::last_id(&mut conn).await? {
        rclaude_types::continue_after(id.as_str());
    }
    if let Some(id) = checkpoint::last_id(&mut conn).await? {
        rclaude_types::continue_after(id.as_str());
    }
    Ok(())
}

/// Runs a server until `stop` is cancelled; `ready` is told once it answers. Sandboxes and agents
/// go on without it, and the next server on the same data directory takes them up again.
pub async fn run(
    options: ServeOptions,
    stop: CancellationToken,
    ready: impl FnOnce(&Ready),
) -> Result<(), ServeError> {
    let data = DataDir::open(&options.data_dir)?;
    let dir = data.path().to_owned();
    if snapshots::restore::is_unfinished(&dir) {
        return Err(ServeError::Restoring(dir));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let tracker = TaskTracker::new();
    let store = Store::open(&dir.join("rclaude.db")).await?;
    continue_ids(&store).await?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| ServeError::Listen { address: options.listen, source })?;
    let address = listener.local_addr()?;
    let door = match options.ssh {
        Some(address) => Some(
            ssh::Door::open(address, &dir)
                .await
                .map_err(|source| ServeError::Ssh { address, source })?,
        ),
        None => None,
    };
    let ssh = door.as_ref().map(ssh::Door::address);

    let mut local = LocalConfig::new(dir.join("engine"), "");
    local.supervisor.clone_from(&options.supervisor);
    local.image = options.disk_image;
    let provider =
        LocalProvider::open(local).await.map_err(|error| ServeError::Engine(chain(&error)))?;
    let secret = data.secret()?;
    let credential = options.llm.api_key.clone().map(Credential::ApiKey);
    let gateway_config = GatewayConfig::new(options.llm.url.clone(), credential, secret.to_vec());
    let usage = Arc::new(StoredUsage::new(store.clone()));
    let gateway = Gateway::new(&gateway_config, usage, clock.clone(), tracker.clone())?;
    let repos = RepoCache::new(dir.join("repos"), "git")?.with_forge(&options.forge);
    let provider: Arc<dyn SandboxProvider> = Arc::new(provider);
    let snapshots = Snapshots::new(snapshots::Parts {
        store: store.clone(),
        provider: provider.clone(),
        repos: repos.clone(),
        clock: clock.clone(),
        data_dir: dir.clone(),
        options: options.snapshots,
    });
    let engine = Arc::new(Engine {
        store: store.clone(),
        snapshots: snapshots.clone(),
        provider,
        policy: options.policy,
        sweep: Notify::new(),
        leases: Notify::new(),
        repos,
        gateway,
        clock: clock.clone(),
        tracker: tracker.clone(),
        cancel: stop.clone(),
        tokens: SessionTokens::new(&secret),
        data_dir: dir.clone(),
        llm_ready: options.llm.api_key.is_some(),
        live: Live::default(),
    });
    let sessions = SessionManager::new(engine.clone());
    let recovered =
        sessions.recover().await.map_err(|problem| ServeError::Engine(problem.detail))?;

    tracker.spawn(sweep::run(engine.clone()));
    tracker.spawn(heartbeat::run(engine.clone()));
    tracker.spawn(expiry::run(engine.clone()));
    let token = owner_token(&dir)?;
    tracker.spawn(snapshots::background::run(snapshots, stop.clone()));
    let ssh_keys = Arc::new(SshKeys::new(store.clone(), clock.clone()));
    let told = door.as_ref().map(|door| door.told.clone());
    if let Some(door) = door {
        let (sessions, keys) = (sessions.clone(), ssh_keys.clone());
        tracker.spawn(ssh::serve(door, sessions, keys, tracker.clone(), stop.clone()));
    }
    let metrics = metrics_recorder();
    let upkeep = metrics.clone();
    let stopping = stop.clone();
    tracker.spawn(async move {
        while stopping.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
            upkeep.run_upkeep();
        }
    });
    let preview_url = options.preview_url.unwrap_or_else(|| {
        let local = format!("http://localhost:{}", address.port());
        local.parse().expect("a port makes a URL")
    });
    let previews = Previews::new(
        &preview_url,
        secret.as_slice(),
        sessions.clone(),
        tracker.clone(),
        stop.clone(),
    );
    let state = ApiState {
        sessions,
        previews,
        auth: Auth::new(&token, Keys::new(store.clone(), clock.clone())),
        ssh_keys,
        info: Arc::new(Info::new(engine, options.llm.name.clone(), told)),
        clock,
        e2b: Door::new(&secret),
        metrics,
        open_metrics: false,
        hosts: Hosts::new(address, Vec::new(), Vec::new()),
        stopping: stop.clone(),
        tasks: tracker.clone(),
    };
    let url = Url::parse(&format!("http://{address}")).expect("an address makes a URL");
    ServerFile { url: url.clone(), pid: std::process::id(), ssh }.write(&dir)?;
    ready(&Ready { url, ssh, sessions: recovered });
    let served = api::serve(listener, api::router(state), stop, &tracker).await;
    tracker.close();
    if tokio::time::timeout(DRAIN, tracker.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    store.close().await;
    ServerFile::remove(&dir);
    Ok(served?)
}
