//! Ids for messages and thoughts that pair their parts with the whole.
//!
//! An answer of the model has an id and numbered content blocks. While it is written its parts
//! name the block; the whole of a block follows as an `assistant` line that names only the
//! answer, before the block is closed. What is never streamed (a sub-agent's words) comes as
//! such lines alone, so their blocks are counted.

use serde::{Deserialize, Serialize};

/// Conversations followed at once: the main one and its sub-agents.
const MAX_STREAMS: usize = 32;

/// The answers being written, one per conversation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Blocks {
    /// The one heard of last is last.
    streams: Vec<Stream>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stream {
    /// The sub-agent's tool call; absent for the main conversation.
    parent: Option<String>,
    /// The answer's id.
    message: String,
    /// The block being streamed.
    open: Option<u64>,
    /// The number of the next block, if it is not streamed.
    next: u64,
}

impl Blocks {
    /// An answer begins.
    pub(super) fn start(&mut self, parent: Option<&str>, message: &str) {
        self.streams.retain(|stream| stream.parent.as_deref() != parent);
        if self.streams.len() == MAX_STREAMS {
            self.streams.remove(0);
        }
        self.streams.push(Stream {
            parent: parent.map(str::to_owned),
            message: message.to_owned(),
            open: None,
            next: 0,
        });
    }

    /// A block of it begins.
    pub(super) fn open(&mut self, parent: Option<&str>, index: u64) {
        if let Some(stream) = self.stream(parent) {
            stream.open = Some(index);
            stream.next = index.saturating_add(1);
        }
    }

    /// The block is complete.
    pub(super) fn close(&mut self, parent: Option<&str>) {
        if let Some(stream) = self.stream(parent) {
            stream.open = None;
        }
    }

    /// The id of a block a part of which arrived.
    pub(super) fn part(&mut self, parent: Option<&str>, index: u64) -> Option<String> {
        self.stream(parent).map(|stream| id(&stream.message, index))
    }

    /// The id of a block that arrived whole.
    pub(super) fn whole(&mut self, parent: Option<&str>, message: &str) -> String {
        if self.stream(parent).is_none_or(|stream| stream.message != message) {
            self.start(parent, message);
        }
        let Some(stream) = self.stream(parent) else { return id(message, 0) };
        let index = stream.open.take().unwrap_or_else(|| {
            let next = stream.next;
            stream.next = next.saturating_add(1);
            next
        });
        id(message, index)
    }

    fn stream(&mut self, parent: Option<&str>) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.parent.as_deref() == parent)
    }
}

fn id(message: &str, index: u64) -> String {
    format!("{message}:{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_whole_of_a_block_share_an_id_and_blocks_differ() {
        let mut blocks = Blocks::default();
        blocks.start(None, "m");
        blocks.open(None, 0);
        assert_eq!(blocks.part(None, 0).as_deref(), Some("m:0"));
        assert_eq!(blocks.whole(None, "m"), "m:0");
        blocks.close(None);
        blocks.open(None, 1);
        assert_eq!(blocks.whole(None, "m"), "m:1");
    }

    #[test]
    fn blocks_that_are_not_streamed_are_counted_per_conversation() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.whole(Some("a"), "m"), "m:0");
        assert_eq!(blocks.whole(None, "n"), "n:0");
        assert_eq!(blocks.whole(Some("a"), "m"), "m:1");
        assert_eq!(blocks.whole(Some("a"), "o"), "o:0");
        assert_eq!(blocks.part(Some("b"), 0), None);
    }

    #[test]
    fn any_number_of_sub_agents_fits_into_bounded_state() {
        let mut blocks = Blocks::default();
        for parent in 0..1_000 {
            blocks.whole(Some(&parent.to_string()), "m");
        }
        assert_eq!(blocks.streams.len(), MAX_STREAMS);
    }
}
