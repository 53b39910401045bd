//! What the server says of itself.

use std::sync::Arc;

use async_trait::async_trait;
use rclaude_sandbox::local::doctor;
use rclaude_store::session;
use rclaude_types::{ErrorCode, Problem, ServerStatus, SshDoor, Timestamp};

use crate::{api::ServerInfo, session::engine::Engine};

/// See [`ServerInfo`].
#[derive(Debug)]
pub(crate) struct Info {
    engine: Arc<Engine>,
    llm_upstream: String,
    started_at: Timestamp,
    ssh: Option<SshDoor>,
}

impl Info {
    pub(crate) fn new(engine: Arc<Engine>, llm_upstream: String, ssh: Option<SshDoor>) -> Self {
        let started_at = engine.clock.now();
        Self { engine, llm_upstream, started_at, ssh }
    }
}

#[async_trait]
impl ServerInfo for Info {
    async fn status(&self) -> Result<ServerStatus, Problem> {
        let internal = |error: String| Problem::new(ErrorCode::Internal, error);
        let mut conn = self.engine.store.read().await.map_err(|e| internal(e.to_string()))?;
        let counts = session::counts(&mut conn).await.map_err(|e| internal(e.to_string()))?;
        drop(conn);
        let dir = self.engine.data_dir.clone();
        let mut checks = tokio::task::spawn_blocking(move || doctor::checks(&dir))
            .await
            .map_err(|e| internal(e.to_string()))?;
        checks.extend(self.engine.snapshots.check());
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            data_dir: self.engine.data_dir.display().to_string(),
            sessions: counts.running + counts.paused + counts.deleting,
            working: counts.working,
            llm_upstream: self.llm_upstream.clone(),
            ssh: self.ssh.clone(),
            checks,
        })
    }

    async fn ready(&self) -> Result<(), Problem> {
        let failed = |error: &dyn std::error::Error| {
            Problem::new(ErrorCode::ShuttingDown, format!("the server is not ready: {error}"))
        };
        let mut conn = self.engine.store.read().await.map_err(|e| failed(&e))?;
        session::counts(&mut conn).await.map_err(|e| failed(&e))?;
        drop(conn);
        self.engine.provider.list().await.map_err(|e| failed(&e))?;
        Ok(())
    }
}
