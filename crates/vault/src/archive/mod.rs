//! A whole vault in one file, to be carried elsewhere.
//!
//! ```text
//! 16 bytes   "rclaude-archive\n"
//!  u32       format, little-endian as all numbers
//!  u32       length of the header
//!  u64       length of the body
//!            header: JSON in the clear
//!            body: a tar of the vault's files
//! 32 bytes   SHA-256 of all before
//! ```
//!
//! The checksum tells an accident from a sound file. It does not keep anybody from changing the
//! file on purpose: that the vault's key does, for all but the header.
//!
//! Both directions read and write as they go, and block.

mod pack;
mod unpack;

use std::path::Path;

use crate::hex;

pub use pack::pack;
pub use unpack::{header, unpack};

const MAGIC: &[u8; 16] = b"rclaude-archive\n";

/// The newest format this program reads and the one it writes.
const FORMAT: u32 = 1;

/// The longest header.
const LONGEST_HEADER: u32 = 1 << 20;

/// What a tar has for each file before its content, and rounds contents up to.
const BLOCK: u64 = 512;

/// What a tar ends with.
const END: u64 = 2 * BLOCK;

/// Whether a file of a vault has this name.
fn is_expected(name: &str) -> bool {
    let is_id = |name: &str| hex::decode(name).is_some() && !name.contains(char::is_uppercase);
    match name.split('/').collect::<Vec<_>>()[..] {
        ["config" | "vault.json"] => true,
        ["keys" | "index" | "snapshots", id] => is_id(id),
        ["data", start, id] => is_id(id) && start.len() == 2 && id.starts_with(start),
        _ => false,
    }
}

/// How long the tar of files of these lengths is.
fn body_length(lengths: impl Iterator<Item = u64>) -> u64 {
    lengths.map(|length| BLOCK + length.next_multiple_of(BLOCK)).sum::<u64>() + END
}

/// A path as errors show it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::is_expected;

    #[test]
    fn names_of_a_vaults_files_are_told_from_others() {
        let id = "ab".repeat(32);
        for name in ["config", "vault.json"] {
            assert!(is_expected(name));
        }
        for name in [format!("keys/{id}"), format!("index/{id}"), format!("data/ab/{id}")] {
            assert!(is_expected(&name), "{name}");
        }
        let id = id.as_str();
        for name in [
            String::new(),
            "/config".to_owned(),
            "../config".to_owned(),
            "keys/../../x".to_owned(),
            format!("data/cd/{id}"),
            format!("data/{id}"),
            format!("data/ab/{id}/"),
            format!("locks/{id}"),
            format!("keys/{}", id.to_uppercase()),
            format!("snapshots/{id}0"),
        ] {
            assert!(!is_expected(&name), "{name}");
        }
    }
}
