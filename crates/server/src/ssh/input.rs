//! What a client sends on a channel, on its way to its reader.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that may wait for a channel's reader.
pub(super) const ROOM: usize = 4 * 1024 * 1024;

/// What a packet costs at least, however short: the queue is memory too.
const LEAST: usize = 256;

/// Bytes handed on at once at most, where more wait.
const PIECE: usize = 256 * 1024;

/// A queue of bytes with room for [`ROOM`].
pub(super) fn queue() -> (Sender, Receiver) {
    let room = Arc::new(Semaphore::new(ROOM));
    // Bounded by the room.
    let (to, from) = mpsc::unbounded_channel();
    (Sender { room: room.clone(), to }, Receiver { room, from, ahead: None })
}

/// Where what comes goes. Dropped, it is the input's end.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    room: Arc<Semaphore>,
    to: mpsc::UnboundedSender<Bytes>,
}

impl Sender {
    /// Adds bytes once there is room. Those that nobody will read any more are dropped.
    pub(super) async fn send(&self, data: &[u8]) {
        for piece in data.chunks(ROOM) {
            let Ok(permits) = self.room.acquire_many(cost(piece.len())).await else { return };
            permits.forget();
            // Fails only beside a receiver that is being dropped.
            let _ = self.to.send(Bytes::copy_from_slice(piece));
        }
    }
}

/// Where they are read.
#[derive(Debug)]
pub(super) struct Receiver {
    room: Arc<Semaphore>,
    from: mpsc::UnboundedReceiver<Bytes>,
    ahead: Option<Bytes>,
}

impl Receiver {
    /// The next bytes, all that wait up to a bound; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        let first = match self.ahead.take() {
            Some(first) => first,
            None => {
                let first = self.from.recv().await;
                self.taken(first)?
            }
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

    fn taken(&self, data: Option<Bytes>) -> Option<Bytes> {
        if let Some(data) = &data {
            self.room.add_permits(cost(data.len()) as usize);
        }
        data
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.room.close();
    }
}

fn cost(length: usize) -> u32 {
    u32::try_from(length.max(LEAST)).expect("a piece is at most the room")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bytes_come_out_as_they_went_in_and_end_with_their_sender() {
        let (to, mut from) = queue();
        to.send(b"one ").await;
        to.send(b"two").await;
        assert_eq!(from.next().await.unwrap(), "one two");
        to.send(&[7; PIECE]).await;
        to.send(&[8; 3]).await;
        assert_eq!(from.next().await.unwrap().len(), PIECE);
        assert_eq!(from.next().await.unwrap(), [8; 3][..]);
        drop(to);
        assert_eq!(from.next().await, None);
    }

    #[tokio::test]
    async fn a_full_queue_waits_for_its_reader_and_for_nobody_once_that_is_gone() {
        let (to, mut from) = queue();
        to.send(&[0; ROOM]).await;
        assert!(to.send(b"more").now_or_never().is_none());
        from.next().await.unwrap();
        assert!(to.send(b"more").now_or_never().is_some());
        let (to, from) = queue();
        for _ in 0..ROOM / LEAST {
            to.send(b"x").await;
        }
        assert!(to.send(b"x").now_or_never().is_none(), "short packets cost as well");
        drop(from);
        assert!(to.send(b"x").now_or_never().is_some());
    }
}
