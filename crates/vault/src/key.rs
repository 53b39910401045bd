//! What opens a vault.

use std::fmt;

use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, aead::Aead as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustic_core::repofile::MasterKey;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

/// A passphrase in the clear. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A passphrase as its owner typed it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<redacted>)")
    }
}

/// What opens a vault. Made with one kind, it opens with that kind alone.
#[derive(Clone)]
pub enum Key {
    /// A person's passphrase. The vault keeps its random master key encrypted under it (scrypt,
    /// about a second of work each time it is opened), as restic does, so that restic opens the
    /// vault as well.
    Passphrase(Secret),
    /// 256 random bits from a keyring. They need no stretching: the master key is derived from
    /// them, nothing secret is in the vault, and opening costs microseconds.
    Random([u8; 32]),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(<redacted>)",
            Self::Random(_) => "Random(<redacted>)",
        })
    }
}

/// The master key that belongs to a random key: the two halves of it are the SHA-256 of the key
/// under two names. One for AES-256, one for the two numbers of Poly1305-AES.
pub(crate) fn derive(key: &[u8; 32]) -> crate::Result<MasterKey> {
    let part = |name: &[u8]| Sha256::new().chain_update(name).chain_update(key).finalize();
    let (encrypt, mac) = (part(b"rclaude vault 1 encrypt"), part(b"rclaude vault 1 authenticate"));
    let (k, r) = mac.split_at(16);
    master_key(&encrypt, k, r)
}

fn master_key(encrypt: &[u8], k: &[u8], r: &[u8]) -> crate::Result<MasterKey> {
    // `MasterKey` can be made of given bytes in its stored form alone.
    let json = serde_json::json!({
        "mac": { "k": STANDARD.encode(k), "r": STANDARD.encode(r) },
        "encrypt": STANDARD.encode(encrypt),
    });
    serde_json::from_value(json).map_err(|error| crate::VaultError::Internal(error.to_string()))
}

/// Encrypts and authenticates one of the engine's own files, as the engine does.
pub(crate) fn seal(key: &MasterKey, content: &[u8]) -> crate::Result<Vec<u8>> {
    let failed = |what: &str| crate::VaultError::Internal(what.to_owned());
    let key = [&key.encrypt[..], &key.mac.k, &key.mac.r].concat();
    let key: &[u8; 64] = key.as_slice().try_into().map_err(|_| failed("no key is this long"))?;
    let mut nonce = [0; 16];
    getrandom(&mut nonce, GetRandomFlags::empty()).map_err(|_| failed("there is no randomness"))?;
    let sealed = Aes256CtrPoly1305Aes::new(key.into())
        .encrypt((&nonce).into(), content)
        .map_err(|_| failed("what is to be sealed is too long"))?;
    Ok([&nonce[..], &sealed].concat())
}
