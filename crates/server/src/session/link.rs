//! The live connection to a sandbox: its daemon, its network, and who watches its commands.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rclaude_sandbox::agentd;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often the daemon is asked for its health while its session is busy.
const LOOK: Duration = Duration::from_secs(10);

/// Everything that hangs on a running sandbox and can be made again at any time.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: agentd::Client,
    /// When the daemon is asked for its health again.
    next_look: Mutex<Instant>,
    /// Ends the egress with the link.
    _guard: DropGuard,
}

impl Link {
    pub(super) fn new(client: agentd::Client, cancel: CancellationToken) -> Self {
        let next_look = Mutex::new(Instant::now() + LOOK);
        Self { client, next_look, _guard: cancel.drop_guard() }
    }

    /// Whether it is time to ask the daemon for its health; true once a period.
    pub(super) fn due(&self) -> bool {
        let mut next = self.next_look.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = now >= *next;
        if due {
            *next = now + LOOK;
        }
        due
    }

    /// Until the connection to the daemon is gone.
    pub(super) async fn lost(&self) {
        self.client.closed().await;
    }
}
