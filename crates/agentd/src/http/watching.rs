//! Requests to be told of changes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Response, StatusCode};
use rclaude_types::{ErrorCode, FileEvent};
use tokio::{io::Interest, sync::mpsc, task::spawn_local};

use super::{Body, body, input::Query};
use crate::{
    daemon::Daemon,
    files::{self, Watcher, Watching},
    refusal::{Doing, Refusal, Result},
    sys::{self, rights::Rights},
};

/// How long changes are gathered, unless asked otherwise, and at most.
const GATHER: Duration = Duration::from_millis(100);
const MAX_GATHER_MILLIS: u64 = 10_000;

pub(super) async fn watch(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let recursive = query.flag("recursive")?;
    let gather = match query.number("debounce_ms")? {
        0 => GATHER,
        millis => Duration::from_millis(millis.min(MAX_GATHER_MILLIS)),
    };
    let doing = format!("watch {}", path.display());
    let turn = Arc::clone(&daemon.watches).try_acquire_owned().map_err(|_| {
        let detail = format!("cannot {doing}: there are as many watches as may be");
        Refusal::new(ErrorCode::QuotaExceeded, detail)
    })?;
    let watching = Watching { path, recursive };
    let watcher = files::job(rights, doing.clone(), move || Watcher::begin(watching)).await?;
    let changed = watcher.descriptor().doing(|| doing.clone())?;
    let changed = sys::watch::watch(changed, Interest::READABLE).doing(|| doing)?;
    let (lines, content) = mpsc::channel(1);
    spawn_local(async move {
        tell(watcher, changed, rights, gather, lines).await;
        drop(turn);
    });
    Ok(body::answer(StatusCode::OK, "application/x-ndjson", Body::Pieces(content)))
}

/// Tells what changes until nobody listens, or there is nothing more to watch. A reader that is
/// slow costs the kernel's queue, and then an overflow.
async fn tell(
    mut watcher: Watcher,
    changed: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    rights: Rights,
    gather: Duration,
    lines: mpsc::Sender<std::io::Result<Bytes>>,
) {
    if lines.send(Ok(line(&[FileEvent::Ready]))).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            () = lines.closed() => return,
            ready = changed.readable() => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            },
        }
        // What belongs together arrives together.
        tokio::time::sleep(gather).await;
        let look = files::job(rights, "watch".to_owned(), move || {
            let changes = watcher.changes()?;
            Ok((watcher, changes))
        });
        let Ok((same, (events, goes_on))) = look.await else { return };
        watcher = same;
        if !events.is_empty() && lines.send(Ok(line(&events))).await.is_err() || !goes_on {
            return;
        }
    }
}

/// Each event as a line of JSON.
fn line(events: &[FileEvent]) -> Bytes {
    let mut lines = Vec::new();
    for event in events {
        // Plain data: there is nothing in it that JSON cannot say.
        if serde_json::to_writer(&mut lines, event).is_ok() {
            lines.push(b'\n');
        }
    }
    lines.into()
}
