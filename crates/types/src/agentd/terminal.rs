//! Terminals: what is asked for, what became of it, and how a viewer is told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ProcessState, User};
use crate::{TerminalId, TerminalSize, Timestamp};

/// Body of `PUT /v1/terminals/{id}`: a terminal to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSpec {
    /// Program and arguments; the shell that `SHELL` names, or another, if empty.
    #[serde(default)]
    pub argv: Vec<String>,
    /// The whole environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub cwd: String,
    /// Whose rights it has.
    #[serde(default)]
    pub user: User,
    /// How large it is.
    pub size: TerminalSize,
}

/// A terminal as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalInfo {
    /// The name its opener chose.
    pub id: TerminalId,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where its program is.
    #[serde(flatten)]
    pub state: ProcessState,
    /// How large it is.
    pub size: TerminalSize,
    /// What the program calls its window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How many are attached.
    #[serde(default)]
    pub viewers: u32,
    /// Offset of the first byte that is kept.
    #[serde(default)]
    pub first_offset: u64,
    /// Offset of the next byte.
    #[serde(default)]
    pub offset: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last printed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed_at: Option<Timestamp>,
}

/// Answer of `GET /v1/terminals`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalList {
    /// All that run and the last that ended, oldest id first.
    pub data: Vec<TerminalInfo>,
}

/// What a record of `GET /v1/terminals/{id}/attach` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalKind {
    /// A [`TerminalView`](crate::TerminalView) in JSON: first, and whenever a viewer that fell
    /// behind begins anew.
    View,
    /// Bytes that repaint the screen.
    Snapshot,
    /// Bytes as the terminal printed them.
    Bytes,
    /// A [`TerminalSize`] in JSON: it was changed.
    Resized,
    /// A [`TerminalInfo`] in JSON: the end; nothing follows.
    End,
}

/// What stands before each record: kind (1 byte), offset (8), length (4), big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalHeader {
    /// What follows.
    pub kind: TerminalKind,
    /// Offset of the first byte of [`TerminalKind::Bytes`]; for the others the offset reached.
    pub offset: u64,
    /// Bytes that follow; at most [`MAX_RECORD_BYTES`](super::MAX_RECORD_BYTES).
    pub length: u32,
}

impl TerminalHeader {
    /// Bytes a header takes.
    pub const SIZE: usize = 13;

    /// As it stands in the body.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = match self.kind {
            TerminalKind::View => 1,
            TerminalKind::Snapshot => 2,
            TerminalKind::Bytes => 3,
            TerminalKind::Resized => 4,
            TerminalKind::End => 5,
        };
        bytes[1..9].copy_from_slice(&self.offset.to_be_bytes());
        bytes[9..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a header; `None` if it is of no known kind or announces too much.
    pub fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let kind = match bytes[0] {
            1 => TerminalKind::View,
            2 => TerminalKind::Snapshot,
            3 => TerminalKind::Bytes,
            4 => TerminalKind::Resized,
            5 => TerminalKind::End,
            _ => return None,
        };
        let [_, o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = bytes;
        let offset = u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        (length as usize <= super::MAX_RECORD_BYTES).then_some(Self { kind, offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_what_it_wrote_and_nothing_else() {
        use TerminalKind::{Bytes, End, Resized, Snapshot, View};
        for kind in [View, Snapshot, Bytes, Resized, End] {
            let header = TerminalHeader { kind, offset: u64::MAX - 1, length: 65_536 };
            assert_eq!(TerminalHeader::decode(header.encode()), Some(header));
        }
        assert_eq!(TerminalHeader::decode([0; 13]), None);
        assert_eq!(TerminalHeader::decode([6; 13]), None);
        let long = TerminalHeader { kind: Bytes, offset: 0, length: 65_537 };
        assert_eq!(TerminalHeader::decode(long.encode()), None);
    }
}
