//! The snapshot store of Remote Claude: directory trees, files and small documents, deduplicated
//! by content-defined chunking, compressed, encrypted and authenticated (AES-256 in counter mode
//! with Poly1305-AES), in a directory or in S3.
//!
//! A [`Vault`] grows by what is new and nothing else, whoever saves it. Saving, restoring and
//! pruning go on side by side, in one process or many, and one that is killed at any point harms
//! nothing that was saved. [`digest`] says whether two trees are the same; `verify` names what is
//! damaged.
//!
//! The format on disk is restic's, read and written by `rustic_core`, which stays inside this
//! crate. With a passphrase for a key, restic itself opens the vault.
//!
//! ```no_run
//! # async fn example() -> rclaude_vault::Result<()> {
//! use std::path::Path;
//! use rclaude_vault::{Key, Vault};
//!
//! let vault = Vault::open_or_create(&"/srv/vault".parse()?, &Key::Random([7; 32])).await?;
//! let saved = vault.save(Path::new("/srv/layer"), "layer of session 7").await?;
//! vault.restore(&saved.id, Path::new("/srv/elsewhere")).await?;
//! # Ok(())
//! # }
//! ```

pub mod archive;

mod documents;
mod error;
mod hex;
mod key;
mod location;
mod open;
mod prune;
mod restore;
mod save;
mod session;
mod snapshot;
mod store;
mod tree;
mod vault;
mod verify;

pub use documents::Document;
pub use error::{Result, VaultError};
pub use key::{Key, Secret};
pub use location::{Location, S3, S3Access};
pub use prune::Pruned;
pub use restore::Restored;
pub use save::Saved;
pub use snapshot::{Content, Snapshot, SnapshotId};
pub use tree::digest::{TreeDigest, digest};
pub use vault::Vault;
pub use verify::{DamagedFile, Lost, Verified};
