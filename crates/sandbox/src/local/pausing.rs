//! Setting a sandbox aside, with its memory or without, and bringing it back.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rclaude_types::SandboxId;
use rustix::process::Pid;

use super::{
    protocol::{Failure, FailureClass, Request, While as _},
    provider::{Inner, LocalProvider, known},
    reclaim::reclaim,
};
use crate::provider::{Kept, Pausing, Result, SandboxRef};

/// How long a half-frozen sandbox that is to end may take to stand still.
const MOMENT: Duration = Duration::from_millis(100);

#[async_trait]
impl Pausing for LocalProvider {
    fn keeps(&self) -> Kept {
        self.inner().keeps
    }

    async fn freeze(&self, sandbox: &SandboxRef) -> Result<()> {
        const OPERATION: &str = "freeze the sandbox";
        let id = known(sandbox, OPERATION)?;
        self.change(OPERATION, id, Inner::freeze).await
    }

    async fn stop(&self, sandbox: &SandboxRef) -> Result<()> {
        const OPERATION: &str = "stop the sandbox";
        let id = known(sandbox, OPERATION)?;
        self.change(OPERATION, id, |inner, id| inner.stop(id, inner.config.stop_grace)).await
    }

    async fn resume(&self, sandbox: &SandboxRef) -> Result<SandboxRef> {
        const OPERATION: &str = "resume the sandbox";
        let id = known(sandbox, OPERATION)?;
        self.change(OPERATION, id, |inner, id| {
            if !inner.engine.sandbox(id).path().exists() {
                return Err(Failure::new(FailureClass::Rejected, "there is no such sandbox"));
            }
            if !inner.thaw(id)? {
                inner.client.start(id)?;
            }
            Ok(SandboxRef(id.to_string()))
        })
        .await
    }

    async fn reclaim(&self, sandbox: &SandboxRef) -> Result<u64> {
        const OPERATION: &str = "reclaim the sandbox's memory";
        let id = known(sandbox, OPERATION)?;
        let open_up = |inner: &Inner, id: &SandboxId| {
            let state = inner.alive(id).during("read what is known of the sandbox")?;
            let Some(state) = state.filter(|state| state.cgroups.is_frozen()) else {
                return Ok(None);
            };
            // Behind the gate, so that it never follows the limit that a resume puts back.
            state.cgroups.let_swap(true).during("lift the sandbox's limit of swap")?;
            Ok(Some(state))
        };
        if !self.run(OPERATION, |_| Ok(super::reclaim::host_can_swap())).await? {
            return Ok(0);
        }
        let Some(state) = self.change(OPERATION, id, open_up).await? else { return Ok(0) };
        // Not behind the gate: it takes a while, and ends by itself when the sandbox is resumed.
        self.run(OPERATION, move |_| reclaim(&state.cgroups).during("move memory to swap")).await
    }
}

impl Inner {
    /// Ends a sandbox's processes, giving its daemon `grace` to do so in good order.
    pub(super) fn stop(&self, id: &SandboxId, grace: Duration) -> Result<(), Failure> {
        let asked = Instant::now();
        self.end_frozen(id, grace)?;
        if !grace.is_zero() && self.client.ask_running(&Request::Terminate { id: id.clone() })? {
            let alive = || self.alive(id).during("read what is known of the sandbox");
            while asked.elapsed() < grace && alive()?.is_some() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Also when it has ended: the supervisor then takes note of it.
        while self.client.ask_running(&Request::Kill { id: id.clone() })? {}
        Ok(())
    }

    /// The part of a frozen sandbox's end that happens while it is frozen.
    ///
    /// All but its daemon are killed as they stand: whoever paused the session wants nothing more
    /// of them to happen. The daemon is then thawed with the request to end already before it. It
    /// finds what its processes had printed still in their pipes and their ends to be noted, which
    /// it journals, and leaves. Without `grace` it is killed with the rest.
    fn end_frozen(&self, id: &SandboxId, grace: Duration) -> Result<(), Failure> {
        let state = self.alive(id).during("read what is known of the sandbox")?;
        let Some(state) = state.filter(|state| state.cgroups.is_frozen()) else { return Ok(()) };
        if let Some(freezer) = state.cgroups.freezer() {
            // Whoever froze it may have been killed before all stood still. What will not stand
            // still in a moment is killed on the run.
            let _ = freezer.freeze(MOMENT);
            let daemon = Pid::from_raw(state.process.pid).filter(|_| !grace.is_zero());
            freezer.kill_all_but(daemon).during("end the sandbox's processes")?;
        }
        if !grace.is_zero() {
            self.client.ask_running(&Request::Terminate { id: id.clone() })?;
        }
        state.cgroups.thaw().during("let the sandbox's daemon end")
    }
}
