//! Following a session's log without gaps or repeats.
//!
//! The log is the only place events live. The channel carries one number, the last sequence
//! written, so a follower that falls behind loses nothing: it reads on from its own cursor, at its
//! own pace. History and live are the same call.

use std::sync::Arc;

use futures::{Stream, stream};
use rclaude_types::{Event, Seq};
use tokio::sync::watch;

/// Where events are kept: the store, in the server.
pub(super) trait Log: Send + Sync + 'static {
    /// What reading can fail with.
    type Error: Send + 'static;

    /// Some events after `cursor`, in order; none only if there are none.
    fn after(&self, cursor: Seq) -> impl Future<Output = Result<Vec<Event>, Self::Error>> + Send;
}

/// All batches of events after `cursor`, as they come. Ends once the writer is gone and all it
/// wrote has been read, or after an error.
pub(super) fn follow<L: Log>(
    log: Arc<L>,
    last: watch::Receiver<Seq>,
    cursor: Seq,
) -> impl Stream<Item = Result<Vec<Event>, L::Error>> + Send + 'static {
    stream::unfold(Some((log, last, cursor)), async |state| {
        let (log, mut last, cursor) = state?;
        loop {
            let open = last.wait_for(|last| *last > cursor).await.is_ok();
            match log.after(cursor).await {
                Err(error) => return Some((Err(error), None)),
                Ok(batch) => match batch.last().map(|event| event.seq) {
                    Some(read) => return Some((Ok(batch), Some((log, last, read)))),
                    None if open => {}
                    None => return None,
                },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Mutex, time::Duration};

    use futures::StreamExt;
    use rclaude_types::{EventBody, Timestamp};
    use tokio::task::JoinSet;

    use super::*;

    #[derive(Debug, Default)]
    struct InMemory(Mutex<Vec<Event>>);

    impl Log for InMemory {
        type Error = Infallible;

        async fn after(&self, cursor: Seq) -> Result<Vec<Event>, Infallible> {
            let events = self.0.lock().unwrap();
            Ok(events.iter().filter(|e| e.seq > cursor).take(256).cloned().collect())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn every_follower_sees_every_event_once_and_in_order() {
        const TOTAL: Seq = 20_000;
        let log = Arc::new(InMemory::default());
        let (news, last) = watch::channel(0);
        let mut followers = JoinSet::new();
        for i in 0..16 {
            let batches = follow(log.clone(), last.clone(), 0);
            followers.spawn(async move {
                // Join at different moments.
                tokio::time::sleep(Duration::from_micros(i * 500)).await;
                let batches = batches.map(|batch| batch.unwrap_or_else(|never| match never {}));
                batches.flat_map(stream::iter).map(|event| event.seq).collect::<Vec<_>>().await
            });
        }
        for seq in 1..=TOTAL {
            let body = EventBody::TurnStarted {};
            let at = Timestamp::default();
            log.0.lock().unwrap().push(Event { seq, at, turn: None, body });
            news.send_replace(seq);
            if seq % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(news);
        for seen in followers.join_all().await {
            assert_eq!(seen, (1..=TOTAL).collect::<Vec<_>>());
        }
    }
}
