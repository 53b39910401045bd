//! What the handlers work with.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusHandle;
use rclaude_types::{Problem, ServerStatus};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Door, Hosts};
use crate::{
    auth::Auth, clock::Clock, preview::Previews, session::manager::SessionManager, ssh::SshKeys,
};

/// What the server can say of itself.
#[async_trait]
pub trait ServerInfo: fmt::Debug + Send + Sync + 'static {
    /// Its version, its data, its host.
    async fn status(&self) -> Result<ServerStatus, Problem>;

    /// Whether it can do its work: the store answers, the engine is up. A problem says what is
    /// amiss.
    async fn ready(&self) -> Result<(), Problem>;
}

/// What the handlers work with.
#[derive(Debug)]
pub struct ApiState {
    /// Finds, makes and steers sessions.
    pub sessions: SessionManager,
    /// Tells callers by what they present.
    pub auth: Auth,
    /// What listens in sessions, for browsers.
    pub previews: Previews,
    /// Public keys that open sessions over SSH.
    pub ssh_keys: Arc<SshKeys>,
    /// What the server can say of itself.
    pub info: Arc<dyn ServerInfo>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// What the E2B door keeps.
    pub e2b: Door,
    /// The program's metrics. Somebody must call `run_upkeep` on it every few seconds, or samples
    /// pile up between scrapes.
    pub metrics: PrometheusHandle,
    /// Lets `/metrics` answer without credentials.
    pub open_metrics: bool,
    /// By which names and from which pages the server may be called.
    pub hosts: Hosts,
    /// Cancelled when the server begins to stop; endless answers end then.
    pub stopping: CancellationToken,
    /// Keeps count of open sockets, so that stopping waits for them.
    pub tasks: TaskTracker,
}
