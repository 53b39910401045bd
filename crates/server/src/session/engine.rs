//! What every actor and the manager share: the services a session is made of.

use std::{path::PathBuf, sync::Arc};

use rclaude_sandbox::provider::{Capabilities, SandboxProvider};
use rclaude_store::Store;
use rclaude_types::{SessionId, Timestamp};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    actor,
    lifecycle::Ladder,
    live::{Handle, Live},
    policy::Policy,
};
use crate::{
    agent::install::Package,
    clock::Clock,
    gateway::{Gateway, SessionTokens},
    repo::RepoCache,
    snapshots::Snapshots,
};

/// The services behind all sessions.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) provider: Arc<dyn SandboxProvider>,
    pub(crate) repos: RepoCache,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<dyn Clock>,
    /// Every task of the server's; shutdown waits for them.
    pub(crate) tracker: TaskTracker,
    /// Cancelled when the server goes down.
    pub(crate) cancel: CancellationToken,
    /// Makes the tokens that sessions show the gateway.
    pub(crate) tokens: SessionTokens,
    /// Where the server's data is.
    pub(crate) data_dir: PathBuf,
    /// Whether a model API is configured.
    pub(crate) llm_ready: bool,
    pub(crate) live: Live,
    /// Where states outlive this machine's disk.
    pub(crate) snapshots: Snapshots,
    /// When sessions go down a rung by themselves.
    pub(crate) policy: Policy,
    /// Woken when there is something to sweep.
    pub(crate) sweep: Notify,
    /// Woken when a lease's end is another.
    pub(crate) leases: Notify,
}

impl Engine {
    /// The directory of the installed agent, if it is installed.
    pub(super) fn agent(&self) -> Option<PathBuf> {
        let package = Package::claude_code().ok()?;
        package.installed(&self.data_dir).map(|_| package.home(&self.data_dir))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The rungs that exist here.
    pub(super) fn ladder(&self) -> Ladder {
        let can = Capabilities::of(&*self.provider);
        Ladder { pause: can.pause, archive: can.layers.is_some() && self.snapshots.available() }
    }

    /// The session's handle; starts its actor if it has none.
    pub(super) fn wake(self: &Arc<Self>, id: &SessionId, last_seq: i64) -> Arc<Handle> {
        self.live.get_or_start(id, last_seq, |handle| {
            self.tracker.spawn(actor::run(self.clone(), handle));
        })
    }
}
