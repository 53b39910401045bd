//! What a client sends on a channel, on its way to its reader.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that may wait for a channel's reader.
pub(super) const ROOM: usize = 4 * 1024 * 1024;

/// What a packet costs at least, however short: the queue is memory too.
const LEAST: usize = 256;

/// Bytes handed on at once at most, where more wait.
const PIECE: usize = 256 * 1024;

/// Bytes that wait although there was no room for them, of all channels of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Excess(Arc<AtomicUsize>);

impl Excess {
    /// How many there are.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A queue of bytes with room for [`ROOM`].
pub(super) fn queue(excess: Excess) -> (Sender, Receiver) {
    let room = Arc::new(Semaphore::new(ROOM));
    // Bounded by the room, and by whoever adds to the excess.
    let (to, from) = mpsc::unbounded_channel();
    let receiver = Receiver { room: room.clone(), excess: excess.clone(), from, ahead: None };
    (Sender { room, excess, to }, receiver)
}

/// Bytes that wait, and where they are counted.
#[derive(Debug)]
enum Waiting {
    InRoom(Bytes),
    InExcess(Bytes),
}

/// Where what comes goes. Dropped, it is the input's end.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    room: Arc<Semaphore>,
    excess: Excess,
    to: mpsc::UnboundedSender<Waiting>,
}

impl Sender {
    /// Adds bytes once there is room. Those that nobody will read any more are dropped. Given up,
    /// nothing was added.
    pub(super) async fn send(&self, data: &[u8]) {
        let Ok(permits) = self.room.acquire_many(cost(data.len())).await else { return };
        permits.forget();
        // Fails only beside a receiver that is being dropped.
        let _ = self.to.send(Waiting::InRoom(Bytes::copy_from_slice(data)));
    }

    /// Adds bytes whether or not there is room.
    pub(super) fn exceed(&self, data: &[u8]) {
        self.excess.0.fetch_add(cost(data.len()) as usize, Ordering::Relaxed);
        if let Err(refused) = self.to.send(Waiting::InExcess(Bytes::copy_from_slice(data))) {
            release(&self.room, &self.excess, refused.0);
        }
    }
}

/// Where they are read.
#[derive(Debug)]
pub(super) struct Receiver {
    room: Arc<Semaphore>,
    excess: Excess,
    from: mpsc::UnboundedReceiver<Waiting>,
    ahead: Option<Bytes>,
}

impl Receiver {
    /// The next bytes, all that wait up to a bound; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let first = if let Some(first) = self.ahead.take() {
            first
        } else {
            let first = self.from.recv().await;
            self.taken(first)?
        };
        let mut whole: Option<BytesMut> = None;
        loop {
            let length = whole.as_ref().map_or(first.len(), BytesMut::len);
            let Ok(more) = self.from.try_recv() else { break };
            let Some(more) = self.taken(Some(more)) else { break };
            if length + more.len() > PIECE {
                self.ahead = Some(more);
                break;
            }
            whole.get_or_insert_with(|| BytesMut::from(&first[..])).extend_from_slice(&more);
        }
        Some(whole.map_or(first, BytesMut::freeze))
    }

    fn taken(&self, waiting: Option<Waiting>) -> Option<Bytes> {
        waiting.map(|waiting| release(&self.room, &self.excess, waiting))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.room.close();
        self.from.close();
        while let Ok(unread) = self.from.try_recv() {
            release(&self.room, &self.excess, unread);
        }
    }
}

/// Counts bytes out.
fn release(room: &Semaphore, excess: &Excess, waiting: Waiting) -> Bytes {
    match waiting {
        Waiting::InRoom(data) => {
            room.add_permits(cost(data.len()) as usize);
            data
        }
        Waiting::InExcess(data) => {
            excess.0.fetch_sub(cost(data.len()) as usize, Ordering::Relaxed);
            data
        }
    }
}

fn cost(length: usize) -> u32 {
    u32::try_from(length.clamp(LEAST, ROOM)).expect("the room is less")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_end_with_their_sender() {
        let (to, mut from) = queue(Excess::default());
        to.send(b"one ").await;
        to.send(b"two").await;
        assert_eq!(from.next().await.unwrap(), "one two");
        to.send(&vec![7; PIECE]).await;
        to.send(&[8; 3]).await;
        assert_eq!(from.next().await.unwrap().len(), PIECE);
        assert_eq!(from.next().await.unwrap(), [8; 3][..]);
        drop(to);
        assert_eq!(from.next().await, None);
    }

    #[tokio::test]
    async fn a_full_queue_waits_for_its_reader_and_for_nobody_once_that_is_gone() {
        let (to, mut from) = queue(Excess::default());
        to.send(&vec![0; ROOM]).await;
        assert!(to.send(b"more").now_or_never().is_none());
        from.next().await.unwrap();
        assert!(to.send(b"more").now_or_never().is_some());
        let (to, from) = queue(Excess::default());
        for _ in 0..ROOM / LEAST {
            to.send(b"x").await;
        }
        assert!(to.send(b"x").now_or_never().is_none(), "short packets cost as well");
        drop(from);
        assert!(to.send(b"x").now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_exceeds_the_room_comes_in_its_turn_and_is_counted_until_it_is_read() {
        let excess = Excess::default();
        let (to, mut from) = queue(excess.clone());
        to.send(&vec![1; ROOM]).await;
        to.exceed(&[2; 1000]);
        to.exceed(b"x");
        assert_eq!(excess.bytes(), 1000 + LEAST);
        assert_eq!(from.next().await.unwrap().len(), ROOM);
        assert_eq!(from.next().await.unwrap().len(), 1001);
        assert_eq!(excess.bytes(), 0);
        assert!(to.send(&vec![3; ROOM]).now_or_never().is_some(), "the room is as it was");
        to.exceed(b"unread");
        drop(from);
        to.exceed(b"for nobody");
        assert_eq!(excess.bytes(), 0);
    }
}
