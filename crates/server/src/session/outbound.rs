//! The sandbox's way out: its sockets, taken over by the egress proxy, and the gateway behind it.

use std::sync::Arc;

use rclaude_sandbox::provider::OutboundSockets;
use rclaude_types::SessionId;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;

impl Engine {
    /// Serves a sandbox's network until cancelled.
    pub(super) fn serve_outbound(
        self: &Arc<Self>,
        _session: &SessionId,
        _sockets: OutboundSockets,
        _cancel: CancellationToken,
    ) {
    }
}
