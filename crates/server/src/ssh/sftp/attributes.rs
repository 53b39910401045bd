//! What files are like (section 5).

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rclaude_types::{ChangeFile, FileEntry, FileKind, Timestamp};

use super::{
    Malformed,
    wire::{Fields, Packet},
};

const SIZE: u32 = 0x1;
const OWNERS: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const TIMES: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

/// What a client says of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owners: Option<(u32, u32)>,
    /// Permission bits alone.
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<u32>,
}

impl Attributes {
    pub(super) fn read(fields: &mut Fields) -> Result<Self, Malformed> {
        let flags = fields.number()?;
        let mut read = Self::default();
        if flags & SIZE != 0 {
            read.size = Some(fields.long()?);
        }
        if flags & OWNERS != 0 {
            read.owners = Some((fields.number()?, fields.number()?));
        }
        if flags & PERMISSIONS != 0 {
            read.mode = Some(fields.number()? & 0o7777);
        }
        if flags & TIMES != 0 {
            let _accessed = fields.number()?;
            read.modified = Some(fields.number()?);
        }
        if flags & EXTENDED != 0 {
            for _ in 0..fields.number()? {
                fields.bytes()?;
                fields.bytes()?;
            }
        }
        Ok(read)
    }

    /// What of it the daemon changes.
    pub(super) fn change(self) -> ChangeFile {
        let at = |seconds| Timestamp::from_micros(i64::from(seconds) * 1_000_000);
        let modified_at = self.modified.map(at);
        ChangeFile { mode: self.mode, modified_at, ..ChangeFile::default() }
    }
}

/// Adds a file's attributes to a packet.
pub(super) fn put(packet: Packet, entry: &FileEntry) -> Packet {
    // The protocol has seconds until 2106.
    let seconds = entry.modified_at.as_micros().div_euclid(1_000_000);
    let seconds = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    packet
        .number(SIZE | OWNERS | PERMISSIONS | TIMES)
        .long(entry.size)
        .number(entry.uid)
        .number(entry.gid)
        .number(kind(entry.kind) | entry.mode)
        .number(seconds)
        .number(seconds)
}

/// Nothing of a file's attributes.
pub(super) fn put_none(packet: Packet) -> Packet {
    packet.number(0)
}

/// The kernel's bits for a kind of file. What is none of the three is told as a pipe, which no
/// client copies.
fn kind(kind: FileKind) -> u32 {
    match kind {
        FileKind::File => 0o100_000,
        FileKind::Directory => 0o040_000,
        FileKind::Symlink => 0o120_000,
        FileKind::Other => 0o010_000,
    }
}

/// A file's path, exactly.
pub(super) fn path_of(entry: &FileEntry) -> OsString {
    exact(&entry.path, entry.path_base64.as_deref())
}

/// Where a link leads, exactly.
pub(super) fn target_of(entry: &FileEntry) -> Option<OsString> {
    Some(exact(entry.target.as_deref()?, entry.target_base64.as_deref()))
}

fn exact(text: &str, base64: Option<&str>) -> OsString {
    match base64.and_then(|it| BASE64.decode(it).ok()) {
        Some(bytes) => OsString::from_vec(bytes),
        None => text.into(),
    }
}

/// A line as `ls -l` has it, before the name; times are UTC.
pub(super) fn line(entry: &FileEntry) -> String {
    let kind = match entry.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => 'p',
    };
    let bit = |at: u32| match (entry.mode >> at & 1, at % 3) {
        (0, _) => '-',
        (_, 2) => 'r',
        (_, 1) => 'w',
        _ => 'x',
    };
    let mode: String = (0..9).rev().map(bit).collect();
    let text = entry.modified_at.to_string();
    let time = text.get(..16).unwrap_or_default().replace('T', " ");
    let FileEntry { uid, gid, size, .. } = entry;
    format!("{kind}{mode}    1 {uid:<8} {gid:<8} {size:>12} {time} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_by_their_flags_and_no_further() {
        let packet = Packet::attributes(1)
            .number(SIZE | PERMISSIONS | TIMES | EXTENDED)
            .long(5)
            .number(0o100_640)
            .number(1)
            .number(2)
            .number(1)
            .bytes(b"name")
            .bytes(b"value");
        let mut fields = Fields(packet.finish().slice(9..));
        let read = Attributes::read(&mut fields).unwrap();
        let wanted =
            Attributes { size: Some(5), owners: None, mode: Some(0o640), modified: Some(2) };
        assert_eq!((read, fields.0.len()), (wanted, 0));
        let endless = Packet::attributes(1).number(EXTENDED).number(u32::MAX);
        assert_eq!(Attributes::read(&mut Fields(endless.finish().slice(9..))), Err(Malformed));
    }

    #[test]
    fn a_line_is_as_ls_has_it() {
        let entry = FileEntry {
            path: "/a".to_owned(),
            path_base64: None,
            kind: FileKind::Directory,
            size: 42,
            mode: 0o754,
            uid: 1000,
            gid: 100,
            modified_at: Timestamp::from_micros(0),
            modified_nanos: 0,
            etag: String::new(),
            target: None,
            target_base64: None,
        };
        let wanted = "drwxr-xr--    1 1000     100                42 1970-01-01 00:00 ";
        assert_eq!(line(&entry), wanted);
    }
}
