//! One hash over all that a tree is.

use std::{collections::HashMap, io::Read as _, path::Path};

use sha2::{Digest as _, Sha256};

use super::{Facts, Kind, Walk};
use crate::{Result, VaultError, hex::written_in_hex};

/// One hash over a tree: what is in it under which name, of which kind, with which mode, owner and
/// group; what files contain, where links point, what devices stand for, which names are links to
/// one file, and the extended attributes in `user.` and `security.capability`. Not times, nor
/// whether a file is sparse.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeDigest([u8; 32]);

written_in_hex!(TreeDigest, "a tree's digest: 64 hexadecimal digits");

/// How much of a file is in memory at once.
const CHUNK: usize = 1 << 20;

/// The digest of a tree on disk. Reads all of it; what it holds in memory grows with the number of
/// files that have several names, and with nothing else. Blocks.
pub fn digest(tree: &Path) -> Result<TreeDigest> {
    let mut digester = Digester::default();
    let mut buffer = vec![0; CHUNK];
    for entry in Walk::new(tree)? {
        let entry = entry?;
        if !digester.entry(&entry.path, &entry.facts) {
            continue;
        }
        let (mut file, mut length) = (entry.opener().open()?, 0);
        loop {
            match file.read(&mut buffer).map_err(VaultError::tree("read", &entry.path))? {
                0 => break,
                read => {
                    digester.content(&buffer[..read]);
                    length += read as u64;
                }
            }
        }
        if length != entry.facts.size {
            return Err(VaultError::Changed { path: entry.path });
        }
    }
    Ok(digester.finish())
}

/// Takes a tree in the order of a [`Walk`]. Every part is preceded by its length, so that no two
/// trees look alike.
#[derive(Default)]
pub(crate) struct Digester {
    hash: Sha256,
    entries: u64,
    /// The number of the first name of each file that may have several.
    first: HashMap<(u64, u64), u64>,
}

impl Digester {
    /// The next entry. Whether its content is to follow.
    pub(crate) fn entry(&mut self, path: &Path, facts: &Facts) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        let number = self.entries;
        self.entries += 1;
        self.part(path.as_os_str().as_bytes());
        if let Some(link) = facts.link {
            let first = *self.first.entry(link).or_insert(number);
            if first != number {
                self.part(b"another name of");
                self.part(&first.to_le_bytes());
                return false;
            }
        }
        self.part(&[facts.kind.letter()]);
        match &facts.kind {
            // The mode of a link means nothing and differs between kernels.
            Kind::Symlink(target) => self.part(target),
            Kind::Char(device) | Kind::Block(device) => self.part(&device.to_le_bytes()),
            Kind::File | Kind::Dir | Kind::Fifo | Kind::Socket => {}
        }
        if !matches!(facts.kind, Kind::Symlink(_)) {
            self.part(&facts.mode.to_le_bytes());
        }
        self.part(&facts.uid.to_le_bytes());
        self.part(&facts.gid.to_le_bytes());
        let counted = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability";
        let attributes: Vec<_> =
            facts.attributes.iter().filter(|(name, _)| counted(name)).collect();
        self.part(&(attributes.len() as u64).to_le_bytes());
        for (name, value) in attributes {
            self.part(name);
            self.part(value);
        }
        if facts.kind == Kind::File {
            // The content comes after its length, in pieces of any size.
            self.hash.update(facts.size.to_le_bytes());
        }
        facts.kind == Kind::File
    }

    /// The next piece of the content of the file that was the last entry.
    pub(crate) fn content(&mut self, piece: &[u8]) {
        self.hash.update(piece);
    }

    pub(crate) fn finish(self) -> TreeDigest {
        TreeDigest(self.hash.finalize().into())
    }

    fn part(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }
}
