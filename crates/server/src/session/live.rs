//! Sessions that have an actor, and the little that others may touch of one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rclaude_sandbox::agentd;
use rclaude_types::{Seq, SessionId, TurnId};
use tokio::sync::{Notify, watch};

/// What the manager and an actor share. Everything durable goes through the store; this only
/// wakes, and says how the sandbox can be reached at the moment.
#[derive(Debug)]
pub(super) struct Handle {
    /// Whose it is.
    pub(super) id: SessionId,
    /// Something was stored that the actor should look at.
    nudge: Notify,
    /// The last entry of the log.
    last_seq: watch::Sender<Seq>,
    /// The daemon, while the sandbox is up.
    link: watch::Sender<Option<agentd::Client>>,
    /// The turn that was last asked to stop, and when. The request itself is stored; this only
    /// bounds how long the agent may take to heed it.
    interrupted: Mutex<Option<(TurnId, Instant)>>,
    starved: Mutex<Starved>,
    /// When something was last done in the session.
    active: Mutex<Instant>,
    /// How many watch it.
    viewers: AtomicUsize,
}

/// Somebody watches, for as long as this is kept.
#[derive(Debug)]
pub(super) struct Viewer(Weak<Handle>);

impl Drop for Viewer {
    fn drop(&mut self) {
        if let Some(handle) = self.0.upgrade() {
            handle.viewers.fetch_sub(1, Ordering::Relaxed);
            handle.active();
        }
    }
}

/// What was seen of processes that the kernel ended for want of memory.
#[derive(Debug, Default)]
struct Starved {
    /// How many there were in this run of the sandbox, once that is known.
    count: Option<u64>,
    /// When more of them were last seen.
    last: Option<Instant>,
}

/// One want of memory may end several processes, whose ends are looked at one after the other.
const SAME_STARVATION: Duration = Duration::from_secs(2);

impl Handle {
    fn new(id: SessionId, last_seq: Seq) -> Self {
        Self {
            id,
            nudge: Notify::new(),
            last_seq: watch::Sender::new(last_seq),
            link: watch::Sender::new(None),
            interrupted: Mutex::new(None),
            starved: Mutex::default(),
            active: Mutex::new(Instant::now()),
            viewers: AtomicUsize::new(0),
        }
    }

    /// Something is done in the session now.
    pub(super) fn active(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nothing was done in it, as far as this server was there.
    pub(super) fn idle(&self) -> Duration {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Somebody begins to watch.
    pub(super) fn watch(self: &Arc<Self>) -> Viewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Viewer(Arc::downgrade(self))
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.viewers.load(Ordering::Relaxed) > 0
    }

    /// Whether its sandbox is up and answers.
    pub(super) fn is_linked(&self) -> bool {
        self.link.borrow().as_ref().is_some_and(|client| !client.is_closed())
    }

    /// Wakes the actor; a nudge while it is busy is kept.
    pub(super) fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Until somebody nudges.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Tells followers how far the log reaches. Never goes back.
    pub(super) fn publish(&self, seq: Seq) {
        self.last_seq.send_if_modified(|last| {
            let news = seq > *last;
            *last = (*last).max(seq);
            news
        });
    }

    /// The last entry of the log, and its news.
    pub(super) fn last_seq(&self) -> watch::Receiver<Seq> {
        self.last_seq.subscribe()
    }

    /// Says how the sandbox can be reached now.
    pub(super) fn set_link(&self, client: Option<agentd::Client>) {
        self.link.send_replace(client);
    }

    /// Notes that a turn was asked to stop; asked again, the first time counts.
    pub(super) fn interrupt(&self, turn: TurnId) {
        let mut interrupted = self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        if interrupted.as_ref().is_none_or(|(before, _)| *before != turn) {
            *interrupted = Some((turn, Instant::now()));
        }
    }

    /// When this turn was asked to stop.
    pub(super) fn interrupted_since(&self, turn: &TurnId) -> Option<Instant> {
        let interrupted = self.interrupted.lock().unwrap_or_else(PoisonError::into_inner);
        interrupted.as_ref().filter(|(of, _)| of == turn).map(|(_, since)| *since)
    }

    /// The sandbox starts: none of its processes was ended for want of memory yet.
    pub(super) fn fresh(&self) {
        let mut starved = self.starved.lock().unwrap_or_else(PoisonError::into_inner);
        *starved = Starved { count: Some(0), last: None };
    }

    /// Takes note of how many processes were ended for want of memory so far; whether it was just
    /// now that there were more. The first look after a restart of ours cannot tell.
    pub(super) fn starved(&self, count: u64) -> bool {
        let mut starved = self.starved.lock().unwrap_or_else(PoisonError::into_inner);
        if starved.count.replace(count).is_some_and(|before| count > before) {
            starved.last = Some(Instant::now());
        }
        starved.last.is_some_and(|last| last.elapsed() < SAME_STARVATION)
    }

    /// How the sandbox can be reached, and its news.
    pub(super) fn link(&self) -> watch::Receiver<Option<agentd::Client>> {
        self.link.subscribe()
    }
}

/// All sessions that have an actor.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<SessionId, Arc<Handle>>>);

impl Live {
    /// The session's handle; `start` is called once for a session that has none yet.
    pub(super) fn get_or_start(
        &self,
        id: &SessionId,
        last_seq: Seq,
        start: impl FnOnce(Arc<Handle>),
    ) -> Arc<Handle> {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = live.get(id) {
            return handle.clone();
        }
        let handle = Arc::new(Handle::new(id.clone(), last_seq));
        live.insert(id.clone(), handle.clone());
        drop(live);
        start(handle.clone());
        handle
    }

    /// The session's handle, if it has an actor.
    pub(super) fn get(&self, id: &SessionId) -> Option<Arc<Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The sessions whose sandbox is up and answers.
    pub(crate) fn linked(&self) -> Vec<SessionId> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.values().filter(|handle| handle.is_linked()).map(|it| it.id.clone()).collect()
    }

    /// Forgets a session that has ended; its followers see the end of the log.
    pub(super) fn forget(&self, id: &SessionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_counts_for_its_own_turn_alone() {
        let handle = Handle::new(SessionId::generate(), 0);
        let (stopped, next) = (TurnId::generate(), TurnId::generate());
        handle.interrupt(stopped.clone());
        let since = handle.interrupted_since(&stopped);
        assert!(since.is_some() && handle.interrupted_since(&next).is_none());
        handle.interrupt(stopped.clone());
        assert_eq!(handle.interrupted_since(&stopped), since);
    }

    #[test]
    fn want_of_memory_is_told_from_what_was_before() {
        let handle = Handle::new(SessionId::generate(), 0);
        assert!(!handle.starved(3), "a server that comes back does not know when that was");
        assert!(!handle.starved(3));
        assert!(handle.starved(4));
        assert!(handle.starved(4), "two processes of one command");
        handle.fresh();
        assert!(!handle.starved(0));
        assert!(handle.starved(1));
    }
}
