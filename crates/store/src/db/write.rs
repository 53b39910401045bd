//! One writer with group commit.
//!
//! A commit costs a wait for the disk, whatever is in it. So a single thread owns the only
//! connection that writes, and everything that is queued while the disk is busy shares the next
//! wait: `BEGIN IMMEDIATE`, each piece of work in a savepoint of its own, one `COMMIT`, then the
//! answers. What a caller is told happened is on the disk.
//!
//! Invariants, each named by a test:
//! - work that fails (or panics) takes back only its own writes; its neighbours are kept;
//! - no answer of success is given before the commit's;
//! - a commit that fails fails the whole batch, and the next batch starts afresh;
//! - work whose caller stopped waiting is still done whole.

use std::{any::Any, panic::AssertUnwindSafe, thread};

use futures::{FutureExt, executor::block_on, future::LocalBoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::conn::{Conn, Tx};
use crate::error::{Result, StoreError};

/// How much may wait in the queue before callers wait to enter it.
const QUEUE: usize = 1024;

/// The most pieces of work that share a commit: bounds how long the first waits for the last.
const BATCH: usize = 256;

/// The way to the writing thread.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Work(Box<dyn Work>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread. It ends when the writer is dropped, after all that is queued.
    pub(crate) fn start(conn: Conn) -> Result<Self> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || block_on(serve(Tx::new(conn), inbox)))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { queue })
    }

    /// Has the work done in a transaction and waits until it is on the disk.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Tx) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Job { work: Some(work), outcome: None, answer };
        let gone = || StoreError::Unavailable("it was closed".to_owned());
        self.queue.send(Message::Work(Box::new(job))).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Waits until all that was queued is done and the file is let go of.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            // An error means that the thread is gone already: closed all the same.
            let _ = closed.await;
        }
    }
}

/// A piece of work whose types are forgotten.
trait Work: Send {
    /// Does it; whether its writes are to be kept.
    fn run<'w>(&'w mut self, tx: &'w mut Tx) -> LocalBoxFuture<'w, bool>;
    /// Tells the caller what it came to, or that it was all for nothing.
    fn answer(self: Box<Self>, batch: Result<()>);
}

struct Job<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> Work for Job<T, F>
where
    T: Send,
    F: AsyncFnOnce(&mut Tx) -> Result<T> + Send,
{
    fn run<'w>(&'w mut self, tx: &'w mut Tx) -> LocalBoxFuture<'w, bool> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return false };
            let outcome = AssertUnwindSafe(work(tx)).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| {
                let why = words(panic.as_ref());
                tracing::error!(panic = why, "a transaction's work panicked");
                Err(StoreError::Internal(format!("a transaction's work panicked: {why}")))
            });
            let keep = outcome.is_ok();
            self.outcome = Some(outcome);
            keep
        })
    }

    fn answer(self: Box<Self>, batch: Result<()>) {
        let outcome = match (self.outcome, batch) {
            // Its own failure says more than its batch's.
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Internal("the work was not done".to_owned())),
        };
        // An error means that the caller stopped waiting.
        let _ = self.answer.send(outcome);
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

async fn serve(mut tx: Tx, mut inbox: mpsc::Receiver<Message>) {
    let mut closing = None;
    while closing.is_none()
        && let Some(message) = inbox.recv().await
    {
        match message {
            Message::Work(first) => closing = batch(&mut tx, first, &mut inbox).await,
            Message::Close(done) => closing = Some(done),
        }
    }
    drop(inbox);
    if let Err(error) = tx.into_conn().close().await {
        tracing::warn!(%error, "the database did not close cleanly");
    }
    if let Some(done) = closing {
        let _ = done.send(());
    }
}

/// Does the first piece of work and whatever is queued behind it in one commit. Returns whom to
/// tell when the queue asked to close.
///
/// A savepoint stays open after `ROLLBACK TO`, and `COMMIT` releases the last: between two
/// pieces of work there is one call to the database at most.
async fn batch(
    tx: &mut Tx,
    first: Box<dyn Work>,
    inbox: &mut mpsc::Receiver<Message>,
) -> Option<oneshot::Sender<()>> {
    let mut closing = None;
    let mut done = vec![first];
    tx.renew();
    let mut outcome = tx.control("BEGIN IMMEDIATE; SAVEPOINT work").await;
    while outcome.is_ok()
        && let Some(work) = done.last_mut()
    {
        let keep = work.run(tx).await;
        outcome = tx.lost().cloned().map_or(Ok(()), Err);
        if outcome.is_ok() && !keep {
            outcome = tx.control("ROLLBACK TO work").await;
        }
        if outcome.is_err() || done.len() == BATCH {
            break;
        }
        match inbox.try_recv() {
            Ok(Message::Work(work)) => done.push(work),
            Ok(Message::Close(asked)) => {
                closing = Some(asked);
                break;
            }
            Err(_) => break,
        }
        if keep {
            outcome = tx.control("RELEASE work; SAVEPOINT work").await;
        }
    }
    if outcome.is_ok() {
        outcome = tx.control("COMMIT").await;
    }
    if let Err(error) = &outcome {
        tracing::error!(%error, lost = done.len(), "a batch of writes was not kept");
        // Fails where the database took the transaction back by itself, which is as good.
        let _ = tx.control("ROLLBACK").await;
    }
    for work in done {
        work.answer(outcome.clone());
    }
    closing
}
