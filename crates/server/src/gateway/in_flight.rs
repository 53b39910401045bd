//! Records on their way to the sink, counted by session.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rclaude_types::SessionId;
use tokio::sync::Notify;

/// Counts the records that were made and not yet kept.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_session: Mutex<HashMap<SessionId, usize>>,
    kept: Notify,
}

impl InFlight {
    pub(super) fn begin(&self, session: &SessionId) {
        *self.lock().entry(session.clone()).or_default() += 1;
    }

    pub(super) fn end(&self, session: &SessionId) {
        let mut by_session = self.lock();
        if let Some(count) = by_session.get_mut(session) {
            *count -= 1;
            if *count == 0 {
                by_session.remove(session);
                drop(by_session);
                self.kept.notify_waiters();
            }
        }
    }

    /// Waits until none of the session's is left.
    pub(super) async fn none(&self, session: &SessionId) {
        loop {
            // Registers before it looks, so that no end goes unnoticed in between.
            let kept = self.kept.notified();
            if !self.lock().contains_key(session) {
                return;
            }
            kept.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, usize>> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
