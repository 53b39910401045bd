//! The live connection to a sandbox: its daemon, its network, and who watches its commands.

use rclaude_sandbox::agentd;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Everything that hangs on a running sandbox and can be made again at any time.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: agentd::Client,
    /// Ends the egress with the link.
    _guard: DropGuard,
}

impl Link {
    pub(super) fn new(client: agentd::Client, cancel: CancellationToken) -> Self {
        Self { client, _guard: cancel.drop_guard() }
    }

    /// Until the connection to the daemon is gone.
    pub(super) async fn lost(&self) {
        self.client.closed().await;
    }
}
