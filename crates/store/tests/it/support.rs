//! A store in a directory of its own, and rows to put into it.

use rclaude_store::{
    Store,
    session::{NewSession, SessionSettings},
};
use rclaude_types::{SessionId, Timestamp};
use tempfile::TempDir;

/// A store whose files go when it does.
pub(crate) struct Home {
    pub(crate) store: Store,
    pub(crate) dir: TempDir,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("rclaude.db")).await.unwrap();
        Self { store, dir }
    }

    /// Adds a session with a name made of its id.
    pub(crate) async fn session(&self) -> SessionId {
        add_session(&self.store).await
    }
}

pub(crate) async fn add_session(store: &Store) -> SessionId {
    let id = SessionId::generate();
    let new = NewSession {
        id: id.clone(),
        name: id.as_str().replace('_', "-"),
        settings: SessionSettings::default(),
        at: at(0),
    };
    store.write(async move |tx| rclaude_store::session::insert(tx, &new).await).await.unwrap();
    id
}

/// A moment, so many seconds after one in 2026.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000 + seconds * 1_000_000)
}
