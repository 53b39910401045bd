//! The daemon's life: it listens, reaps, and ends in order.

use std::{
    cell::Cell,
    os::unix::net::UnixListener as StdListener,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rclaude_types::{
    ErrorCode,
    agentd::{Health, PROTOCOL, User},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixListener,
    sync::{Notify, Semaphore},
    task::spawn_local,
};

use crate::{
    http,
    options::Options,
    process::{Registry, identity},
    refusal::{Refusal, Result},
    sys::{
        self,
        rights::Rights,
        startup::{self, Signals},
    },
    terminal::Terminals,
};

/// How long the last answers have to leave.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Archives, copies and searches at once: each holds a thread.
const LONG_WORK: usize = 8;

/// Trees watched at once: each holds one of the user's few inotify instances.
const WATCHES: usize = 32;

/// What every request may need.
pub(crate) struct Daemon {
    pub(crate) registry: Rc<Registry>,
    pub(crate) terminals: Terminals,
    pub(crate) token: Vec<u8>,
    pub(crate) long_work: Semaphore,
    pub(crate) watches: Arc<Semaphore>,
    agent: (u32, u32),
    allow_root: bool,
    started: Instant,
    ending: Cell<bool>,
    end: Notify,
}

impl Daemon {
    /// Who a process of `user` becomes, if it may be.
    pub(crate) fn identity(&self, user: User) -> Result<Option<(u32, u32)>> {
        if self.ending.get() {
            return Err(Refusal::new(ErrorCode::ShuttingDown, "the sandbox is shutting down"));
        }
        self.check(user)?;
        Ok(identity(user, self.agent))
    }

    /// In whose rights files are touched for `user`, if they may be.
    pub(crate) fn rights(&self, user: User) -> Result<Rights> {
        self.check(user)?;
        Ok(identity(user, self.agent).map_or(Rights::Own, |(uid, gid)| Rights::Of(uid, gid)))
    }

    fn check(&self, user: User) -> Result<()> {
        if user == User::Root && !self.allow_root {
            return Err(Refusal::new(ErrorCode::Forbidden, "this sandbox does not give root"));
        }
        Ok(())
    }

    pub(crate) fn health(&self) -> Health {
        let running = self.registry.running();
        Health {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            allow_root: self.allow_root,
            uptime_seconds: self.started.elapsed().as_secs(),
            running: u32::try_from(running.len()).unwrap_or(u32::MAX),
            journal_full: running.iter().any(|process| process.is_journal_full()),
            printed_seconds_ago: self.terminals.printed_seconds_ago(),
        }
    }

    /// Begins the end: nothing is started any more, and what runs is ended.
    pub(crate) fn shut_down(&self) {
        self.ending.set(true);
        self.end.notify_one();
    }
}

/// Serves until told to end.
pub(crate) async fn run(options: Options, signals: Signals) -> std::result::Result<(), String> {
    let registry = Registry::open(&options.state)
        .map_err(|error| format!("cannot open the journals: {error}"))?;
    let daemon = Rc::new(Daemon {
        registry: Rc::new(registry),
        terminals: Terminals::open(&options.state),
        token: options.token,
        long_work: Semaphore::new(LONG_WORK),
        watches: Arc::new(Semaphore::new(WATCHES)),
        agent: options.agent,
        allow_root: options.allow_root,
        started: Instant::now(),
        ending: Cell::new(false),
        end: Notify::new(),
    });
    let listener = listen(options.listener).map_err(|error| format!("cannot listen: {error}"))?;
    let signals = sys::watch::watch(signals, Interest::READABLE)
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    spawn_local(heed(Rc::clone(&daemon), signals));
    tokio::select! {
        () = http::serve(Rc::clone(&daemon), listener) => {}
        () = daemon.end.notified() => {}
    }
    tokio::join!(daemon.terminals.lose_all(), daemon.registry.end_all());
    tokio::time::sleep(LAST_WORDS).await;
    Ok(())
}

fn listen(listener: StdListener) -> std::io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Reaps children and ends the daemon when asked to.
async fn heed(daemon: Rc<Daemon>, signals: AsyncFd<Signals>) {
    let reap = || daemon.registry.reap(|pid, status| daemon.terminals.ended(pid, status));
    // Children that ended before anyone listened are reaped with the first that ends after.
    reap();
    loop {
        let Ok(mut ready) = signals.readable().await else {
            // Without signals nothing is ever reaped: better a clean end than a slow one.
            return daemon.shut_down();
        };
        while let Ok(Ok(signal)) = ready.try_io(|signals| startup::next(signals.get_ref())) {
            if signal == libc::SIGCHLD.unsigned_abs() {
                reap();
            } else {
                daemon.shut_down();
            }
        }
    }
}
