//! Between what the disk says of a file and what a snapshot keeps of it.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use serde::de::DeserializeOwned;

use super::{Facts, Kind, Time};
use crate::{Result, VaultError};

/// Go's `io/fs` bits above the permissions, which restic's format has for modes.
mod go {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const FIFO: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

/// The three bits above the permissions: ours and Go's.
const HIGH: [(u32, u32); 3] = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];

/// What stands before the hexadecimal form of an attribute's name that is not text. No real name
/// has a NUL in it.
const NOT_TEXT: &str = "\0hex:";

/// What a snapshot keeps. User and group by number alone: names mean others elsewhere.
pub(crate) fn to_node(name: &OsStr, facts: &Facts) -> Result<Node> {
    let (kind, bits) = match &facts.kind {
        Kind::File => (NodeType::File, 0),
        Kind::Dir => (NodeType::Dir, go::DIR),
        Kind::Symlink(target) => {
            (NodeType::from_link(Path::new(OsStr::from_bytes(target))), go::SYMLINK)
        }
        Kind::Char(device) => (NodeType::Chardev { device: *device }, go::DEVICE | go::CHAR),
        Kind::Block(device) => (NodeType::Dev { device: *device }, go::DEVICE),
        Kind::Fifo => (NodeType::Fifo, go::FIFO),
        Kind::Socket => (NodeType::Socket, go::SOCKET),
    };
    let high = HIGH.iter().filter(|(ours, _)| facts.mode & ours != 0).map(|(_, theirs)| theirs);
    let mtime = timestamp(facts.mtime);
    // A device number tells apart what is on different disks, and is never 0 where it counts.
    let (device_id, inode) = facts.link.unwrap_or_default();
    let mut meta = Metadata {
        mode: Some(facts.mode & 0o777 | bits | high.sum::<u32>()),
        mtime,
        atime: mtime,
        ctime: facts.ctime.and_then(timestamp),
        uid: Some(facts.uid),
        gid: Some(facts.gid),
        inode,
        device_id,
        size: facts.size,
        links: if facts.link.is_some() { 2 } else { u64::from(facts.kind != Kind::Dir) },
        ..Metadata::default()
    };
    if !facts.attributes.is_empty() {
        meta.extended_attributes = attributes(&facts.attributes)?;
    }
    Ok(Node::new_node(name, kind, meta))
}

/// What a snapshot kept.
pub(crate) fn to_facts(node: &Node) -> Result<Facts> {
    let meta = &node.meta;
    let mode = meta.mode.unwrap_or(0o600);
    let high = HIGH.iter().filter(|(_, theirs)| mode & theirs != 0).map(|(ours, _)| ours);
    let kind = match &node.node_type {
        NodeType::File => Kind::File,
        NodeType::Dir => Kind::Dir,
        link @ NodeType::Symlink { .. } => {
            Kind::Symlink(link.to_link().as_os_str().as_bytes().to_vec())
        }
        NodeType::Chardev { device } => Kind::Char(*device),
        NodeType::Dev { device } => Kind::Block(*device),
        NodeType::Fifo => Kind::Fifo,
        NodeType::Socket => Kind::Socket,
    };
    let attributes = meta.extended_attributes.iter().map(|attribute| {
        let value = attribute.value.clone().unwrap_or_default();
        Ok((decode(&attribute.name)?, value))
    });
    Ok(Facts {
        mode: mode & 0o777 | high.sum::<u32>(),
        uid: meta.uid.unwrap_or_default(),
        gid: meta.gid.unwrap_or_default(),
        size: meta.size,
        mtime: time(meta.mtime),
        ctime: meta.ctime.map(|ctime| time(Some(ctime))),
        link: (meta.links > 1 && kind != Kind::Dir).then_some((meta.device_id, meta.inode)),
        attributes: attributes.collect::<Result<_>>()?,
        kind,
    })
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).ok()?).ok()
}

/// Whole nanoseconds since 1970, split so that the part below a second counts upwards.
fn time(of: Option<Timestamp>) -> Time {
    const SECOND: i128 = 1_000_000_000;
    let all = of.unwrap_or_default().as_nanosecond();
    Time {
        seconds: i64::try_from(all.div_euclid(SECOND)).unwrap_or_default(),
        nanoseconds: u32::try_from(all.rem_euclid(SECOND)).unwrap_or_default(),
    }
}

fn encode(name: &[u8]) -> String {
    if let Ok(text) = str::from_utf8(name) {
        return text.to_owned();
    }
    let digits: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{NOT_TEXT}{digits}")
}

fn decode(name: &str) -> Result<Vec<u8>> {
    let Some(digits) = name.strip_prefix(NOT_TEXT) else { return Ok(name.as_bytes().to_vec()) };
    let wrong = || VaultError::damaged(format!("an attribute is called {name:?}"));
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = str::from_utf8(pair).map_err(|_| wrong())?;
        u8::from_str_radix(pair, 16).map_err(|_| wrong())
    });
    pairs.collect()
}

/// The engine's type for attributes has no name, but a stored form.
fn attributes<T: DeserializeOwned>(of: &[(Vec<u8>, Vec<u8>)]) -> Result<T> {
    let stored = of.iter().map(|(name, value)| {
        serde_json::json!({ "name": encode(name), "value": STANDARD.encode(value) })
    });
    serde_json::from_value(stored.collect())
        .map_err(|error| VaultError::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{to_facts, to_node};
    use crate::tree::{Facts, Kind, Time};

    #[test]
    fn what_a_snapshot_keeps_of_a_file_comes_back_as_it_was() {
        let kinds = [
            Kind::File,
            Kind::Dir,
            Kind::Symlink(b"some/\xff\xfetarget".to_vec()),
            Kind::Symlink(b"plain".to_vec()),
            Kind::Char(0),
            Kind::Block(0x801),
            Kind::Fifo,
            Kind::Socket,
        ];
        for kind in kinds {
            for mode in [0, 0o7777, 0o4755, 0o2070, 0o1777, 0o640] {
                let facts = Facts {
                    mode,
                    uid: 536_870_912,
                    gid: 7,
                    size: if kind == Kind::File { 9 } else { 0 },
                    mtime: Time { seconds: -1, nanoseconds: 999_999_999 },
                    ctime: Some(Time { seconds: 1_700_000_000, nanoseconds: 1 }),
                    link: (kind != Kind::Dir).then_some((3, 4)),
                    attributes: vec![
                        (b"user.\xff\x00\x80".to_vec(), vec![0, 255]),
                        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
                    ],
                    kind: kind.clone(),
                };
                let node = to_node(OsStr::new("name"), &facts).unwrap();
                let stored = serde_json::to_string(&node).unwrap();
                let node = serde_json::from_str(&stored).unwrap();
                assert_eq!(to_facts(&node).unwrap(), facts, "{stored}");
            }
        }
    }
}
