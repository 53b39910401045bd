//! The framing of `GET /v1/processes/{id}/output`.
//!
//! The body is a row of records: a header of [`OutputHeader::SIZE`] bytes, then as many bytes as
//! the header says. Records of the two streams alternate as the process wrote; each carries the
//! offset of its first byte in its own stream. The last record of a whole answer is
//! [`OutputKind::End`] and holds a [`ProcessInfo`](super::ProcessInfo) in JSON; an answer without
//! it was cut off and is taken up again from the offsets reached.

/// The most bytes a record carries after its header.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// Bytes of standard output.
    Stdout,
    /// Bytes of standard error.
    Stderr,
    /// Where the process is now, in JSON; nothing follows.
    End,
}

/// What stands before each record: kind (1 byte), offset (8), length (4), big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputHeader {
    /// What follows.
    pub kind: OutputKind,
    /// Offset of the first byte in its stream; 0 for [`OutputKind::End`].
    pub offset: u64,
    /// Bytes that follow; at most [`MAX_RECORD_BYTES`].
    pub length: u32,
}

impl OutputHeader {
    /// Bytes a header takes.
    pub const SIZE: usize = 13;

    /// As it stands in the body.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = match self.kind {
            OutputKind::Stdout => 1,
            OutputKind::Stderr => 2,
            OutputKind::End => 3,
        };
        bytes[1..9].copy_from_slice(&self.offset.to_be_bytes());
        bytes[9..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Reads a header; `None` if it is of no known kind or announces too much.
    pub fn decode(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let kind = match bytes[0] {
            1 => OutputKind::Stdout,
            2 => OutputKind::Stderr,
            3 => OutputKind::End,
            _ => return None,
        };
        let [_, o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3] = bytes;
        let offset = u64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        (length as usize <= MAX_RECORD_BYTES).then_some(Self { kind, offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_what_it_wrote() {
        for kind in [OutputKind::Stdout, OutputKind::Stderr, OutputKind::End] {
            let header = OutputHeader { kind, offset: u64::MAX - 1, length: 65_536 };
            assert_eq!(OutputHeader::decode(header.encode()), Some(header));
        }
    }

    #[test]
    fn an_unknown_kind_and_an_overlong_record_are_refused() {
        assert_eq!(OutputHeader::decode([0; 13]), None);
        let long = OutputHeader { kind: OutputKind::Stdout, offset: 0, length: 65_537 };
        assert_eq!(OutputHeader::decode(long.encode()), None);
    }
}
