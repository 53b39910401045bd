//! A watch whose client asks for its news.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{Happened, Watch, Watched};
use crate::api::e2b::{
    connect::{Error, Result, Unary},
    envd::{desk::lock, guest::Guest},
};

/// News that wait at most; more are told as an error.
const WAITING: usize = 50_000;
/// A watch that nobody asked for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// How long whoever asks waits for news that are on their way: what changes are gathered for, and
/// the ways there and back.
const ON_THEIR_WAY: Duration = Duration::from_millis(50);

/// News of a watch, until somebody asks for them.
#[derive(Debug)]
pub(in crate::api::e2b::envd) struct Poll {
    news: Mutex<News>,
    /// Rung when there is something new.
    arrived: Notify,
    ended: AtomicBool,
    /// Ends the watch when nobody has this any more.
    _end: oneshot::Sender<()>,
}

#[derive(Debug)]
struct News {
    happened: Vec<Happened>,
    failure: Option<Error>,
    asked: Instant,
}

impl Poll {
    pub(in crate::api::e2b::envd) fn is_forgotten(&self) -> bool {
        lock(&self.news).asked.elapsed() > FORGOTTEN
    }

    fn add(&self, happened: Result<Vec<Happened>>) {
        let mut news = lock(&self.news);
        match happened {
            Ok(more) if news.happened.len() + more.len() <= WAITING => news.happened.extend(more),
            Ok(_) => news.failure = Some(Error::invalid("more happened than is kept; watch anew")),
            Err(error) => news.failure = Some(error),
        }
        drop(news);
        self.arrived.notify_one();
    }

    async fn take(&self) -> Result<Vec<Happened>> {
        let is_empty = |news: &News| news.happened.is_empty() && news.failure.is_none();
        let late = Instant::now() + ON_THEIR_WAY;
        while is_empty(&lock(&self.news)) && !self.ended.load(Ordering::Acquire) {
            // A ring may be left from news that were taken before.
            if tokio::time::timeout_at(late, self.arrived.notified()).await.is_err() {
                break;
            }
        }
        let mut news = lock(&self.news);
        news.asked = Instant::now();
        match news.failure.clone() {
            Some(failure) if news.happened.is_empty() => Err(failure),
            _ => Ok(std::mem::take(&mut news.happened)),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Named {
    watcher_id: String,
}

/// `CreateWatcher`.
pub(super) async fn create(guest: Guest, Unary(watched): Unary<Watched>) -> Result<Unary<Value>> {
    let watch = Watch::begin(&guest, &watched).await?;
    let id = format!("w{}", crate::auth::random_hex());
    let (end, ended) = oneshot::channel();
    let news = News { happened: Vec::new(), failure: None, asked: Instant::now() };
    let poll = Arc::new(Poll {
        news: Mutex::new(news),
        arrived: Notify::new(),
        ended: AtomicBool::new(false),
        _end: end,
    });
    guest.desk().keep(&id, poll.clone())?;
    // The task must not keep what ends it.
    let poll = Arc::downgrade(&poll);
    let stopping = guest.api.stopping.clone();
    let gather = async move {
        let mut watch = watch;
        while let Some(happened) = watch.next().await {
            let Some(poll) = poll.upgrade() else { return };
            let failed = happened.is_err();
            poll.add(happened);
            if failed {
                break;
            }
        }
        if let Some(poll) = poll.upgrade() {
            poll.ended.store(true, Ordering::Release);
        }
    };
    guest.api.tasks.spawn(async move {
        tokio::select! {
            () = gather => {}
            _ = ended => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(Unary(json!({ "watcherId": id })))
}

/// `GetWatcherEvents`.
pub(super) async fn news(
    guest: Guest,
    Unary(Named { watcher_id }): Unary<Named>,
) -> Result<Unary<Value>> {
    let poll = guest.desk().kept(&watcher_id)?;
    Ok(Unary(json!({ "events": poll.take().await? })))
}

/// `RemoveWatcher`.
pub(super) async fn remove(
    guest: Guest,
    Unary(Named { watcher_id }): Unary<Named>,
) -> Result<Unary<Value>> {
    guest.desk().drop_watch(&watcher_id)?;
    Ok(Unary(json!({})))
}
