//! The protocol's fields and packets (sections 3 to 7).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Malformed, status::Status};

/// Kinds of packets.
pub(super) const INIT: u8 = 1;
const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const LSTAT: u8 = 7;
pub(super) const FSTAT: u8 = 8;
pub(super) const SETSTAT: u8 = 9;
pub(super) const FSETSTAT: u8 = 10;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const REMOVE: u8 = 13;
pub(super) const MKDIR: u8 = 14;
pub(super) const RMDIR: u8 = 15;
pub(super) const REALPATH: u8 = 16;
pub(super) const STAT: u8 = 17;
pub(super) const RENAME: u8 = 18;
pub(super) const READLINK: u8 = 19;
pub(super) const SYMLINK: u8 = 20;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
pub(super) const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;

/// The version spoken.
const PROTOCOL: u32 = 3;

/// A packet's fields, as they are read.
#[derive(Debug, Clone)]
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| Malformed)
    }

    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| Malformed)
    }

    pub(super) fn long(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| Malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.number()? as usize;
        if length > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(length))
    }
}

/// A packet being written.
#[derive(Debug)]
pub(super) struct Packet(BytesMut);

impl Packet {
    /// An answer to the request with this id.
    fn answer(kind: u8, id: u32) -> Self {
        Self::new(kind).number(id)
    }

    fn new(kind: u8) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        // Its length, once that is known.
        bytes.put_u32(0);
        bytes.put_u8(kind);
        Self(bytes)
    }

    pub(super) fn version(extensions: &[(&str, &str)]) -> Self {
        let packet = Self::new(VERSION).number(PROTOCOL);
        extensions.iter().fold(packet, |packet, (name, version)| {
            packet.bytes(name.as_bytes()).bytes(version.as_bytes())
        })
    }

    pub(super) fn status(id: u32, status: &Status) -> Self {
        let packet = Self::answer(STATUS, id).number(status.code);
        packet.bytes(status.text.as_bytes()).bytes(b"")
    }

    pub(super) fn handle(id: u32, handle: u32) -> Self {
        Self::answer(HANDLE, id).bytes(&handle.to_be_bytes())
    }

    pub(super) fn data(id: u32, data: &[u8]) -> Self {
        Self::answer(DATA, id).bytes(data)
    }

    /// Names, of which so many follow.
    pub(super) fn names(id: u32, count: usize) -> Self {
        Self::answer(NAME, id).number(u32::try_from(count).unwrap_or(u32::MAX))
    }

    pub(super) fn attributes(id: u32) -> Self {
        Self::answer(ATTRS, id)
    }

    pub(super) fn extended(id: u32) -> Self {
        Self::answer(EXTENDED_REPLY, id)
    }

    pub(super) fn number(mut self, value: u32) -> Self {
        self.0.put_u32(value);
        self
    }

    pub(super) fn long(mut self, value: u64) -> Self {
        self.0.put_u64(value);
        self
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.put_u32(u32::try_from(value.len()).expect("fields are shorter than packets"));
        self.0.extend_from_slice(value);
        self
    }

    /// As it is sent.
    pub(super) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len() - 4).expect("packets are bounded");
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written_and_never_beyond_the_packet() {
        let packet = Packet::data(7, b"abc").long(9).finish();
        let mut fields = Fields(packet.slice(4..));
        assert_eq!((fields.byte(), fields.number()), (Ok(DATA), Ok(7)));
        assert_eq!((fields.bytes(), fields.long()), (Ok(Bytes::from("abc")), Ok(9)));
        assert_eq!(fields.byte(), Err(Malformed));
        assert_eq!(Fields(Bytes::from_static(b"\0\0\0\x05abc")).bytes(), Err(Malformed));
        assert_eq!(Fields(Bytes::from_static(b"\xff\xff\xff\xff")).bytes(), Err(Malformed));
    }
}
