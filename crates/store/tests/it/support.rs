//! A store in a directory of its own, and rows to put into it.

use std::{path::PathBuf, process::Command};

use rclaude_store::{
    Result, Store, StoreError, Tx, sandbox,
    session::{self, NewSession, SessionSettings},
    turn::{self, NewTurn},
};
use rclaude_types::{EventBody, NoticeLevel, SandboxId, SessionId, Timestamp, TurnId};
use serde_json::Value;
use tempfile::TempDir;

/// A store whose files go when it does.
pub(crate) struct Home {
    pub(crate) store: Store,
    dir: TempDir,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("rclaude.db")).await.unwrap();
        Self { store, dir }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("rclaude.db")
    }

    /// Adds a session with a name made of its id.
    pub(crate) async fn session(&self) -> SessionId {
        add_session(&self.store).await
    }

    pub(crate) async fn sandbox(&self, session: &SessionId) -> SandboxId {
        self.sandbox_at(session, at(0)).await
    }

    pub(crate) async fn sandbox_at(&self, session: &SessionId, at: Timestamp) -> SandboxId {
        let id = SandboxId::generate();
        let new = sandbox::NewSandbox {
            id: id.clone(),
            session: session.clone(),
            provider: "fake".to_owned(),
            token: "s3cret".to_owned(),
            stack: Vec::new(),
            at,
        };
        self.write(async move |tx| sandbox::insert(tx, &new).await).await;
        id
    }

    pub(crate) async fn turn(&self, session: &SessionId) -> TurnId {
        let id = TurnId::generate();
        let new = NewTurn {
            id: id.clone(),
            session: session.clone(),
            text: "make the tests pass".to_owned(),
            steer: false,
            input: Value::Null,
            at: at(0),
        };
        self.write(async move |tx| turn::enqueue(tx, &new).await).await;
        id
    }

    /// Writes what must succeed.
    pub(crate) async fn write<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx) -> Result<T> + Send + 'static,
    {
        self.store.write(work).await.unwrap()
    }

    /// Writes what must be refused.
    pub(crate) async fn refused<T, F>(&self, work: F) -> StoreError
    where
        T: std::fmt::Debug + Send + 'static,
        F: AsyncFnOnce(&mut Tx) -> Result<T> + Send + 'static,
    {
        self.store.write(work).await.unwrap_err()
    }
}

pub(crate) async fn add_session(store: &Store) -> SessionId {
    let new = new_session();
    let id = new.id.clone();
    store.write(async move |tx| session::insert(tx, &new).await).await.unwrap();
    id
}

pub(crate) fn new_session() -> NewSession {
    let id = SessionId::generate();
    let name = id.as_str().replace('_', "-");
    NewSession { id, name, settings: SessionSettings::default(), origin: None, at: at(0) }
}

/// A moment, so many seconds after one in 2026.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_790_000_000_000_000 + seconds * 1_000_000)
}

/// An entry for a log.
pub(crate) fn notice(message: impl Into<String>) -> EventBody {
    let (code, message) = ("test".to_owned(), message.into());
    EventBody::Notice { level: NoticeLevel::Info, code, message }
}

/// What a `notice` says.
pub(crate) fn said(body: &EventBody) -> &str {
    match body {
        EventBody::Notice { message, .. } => message,
        other => panic!("not a notice: {other:?}"),
    }
}

/// A command that runs one test of this binary again as another process, through `wrapper` where
/// one is needed, and tells it `(name, value)` by its environment.
pub(crate) fn this_test_again(wrapper: &[&str], test: &str, told: (&str, &str)) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsStr::new).chain([binary.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", test, "--nocapture"]).env(told.0, told.1);
    command
}
