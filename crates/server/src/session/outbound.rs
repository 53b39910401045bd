//! The sandbox's way out: its sockets, taken over by the egress proxy, and the gateway behind it.

use std::sync::Arc;

use rclaude_sandbox::{local::original_destination, provider::OutboundSockets};
use rclaude_types::{NoticeLevel, SessionId};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use crate::egress::Egress;

impl Engine {
    /// Serves a session's network until cancelled. What is refused, its owner is told.
    pub(super) fn serve_outbound(
        self: &Arc<Self>,
        session: &SessionId,
        sockets: OutboundSockets,
        cancel: &CancellationToken,
    ) {
        let (gateway, id) = (self.gateway.clone(), session.clone());
        let (engine, told) = (self.clone(), session.clone());
        let egress = Egress {
            gateway: Arc::new(move |request| {
                let (gateway, id) = (gateway.clone(), id.clone());
                Box::pin(async move { gateway.handle(request, Some(&id)).await })
            }),
            on_refused: Arc::new(move |refusal| {
                let (engine, id) = (engine.clone(), told.clone());
                let text = format!("the network policy refused {}:{}", refusal.host, refusal.port);
                engine.tracker.clone().spawn(async move {
                    let written = engine.commit(&id, async move |_, log| {
                        log.notice(None, NoticeLevel::Warning, "network_refused", text);
                        Ok(())
                    });
                    if let Err(error) = written.await {
                        tracing::warn!(session.id = %id, %error, "a refusal was not logged");
                    }
                });
            }),
            original: Arc::new(original_destination),
        };
        egress.serve(sockets, &self.tracker, cancel);
    }
}
