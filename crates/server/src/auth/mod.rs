//! Who is asking.
//!
//! Two kinds of credentials, both 256 random bits behind a prefix that secret scanners can find:
//! the owner's token, a file beside the data that only the owner can read, and API keys, of which
//! the store keeps a hash alone. A plain hash suffices: what is not guessable needs no slow
//! hashing, and a look-up by hash tells a stopwatch nothing about the secret.

mod keys;
mod secret;
mod token;

use rclaude_types::{ErrorCode, KeyId, Problem};

pub use keys::Keys;
pub use secret::Secret;
pub(crate) use secret::random_hex;
pub use token::owner_token;

/// Who made a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever can read the data directory.
    Owner,
    /// The bearer of an API key.
    Key(KeyId),
}

impl Principal {
    /// A word that keeps what one caller chose (idempotency keys) apart from another's.
    pub fn scope(&self) -> &str {
        match self {
            Self::Owner => "owner",
            Self::Key(id) => id.as_str(),
        }
    }

    /// Refuses everybody but the owner.
    pub fn require_owner(&self) -> Result<(), Problem> {
        match self {
            Self::Owner => Ok(()),
            Self::Key(_) => Err(Problem::new(
                ErrorCode::Forbidden,
                "this is done with the owner's token (the file `token` in the server's data \
                 directory), not with an API key",
            )),
        }
    }
}

/// Tells callers by what they present.
#[derive(Debug)]
pub struct Auth {
    owner: secret::Digest,
    keys: Keys,
}

impl Auth {
    /// With the owner's token and the store's keys.
    pub fn new(owner: &Secret, keys: Keys) -> Self {
        Self { owner: secret::digest(owner.expose()), keys }
    }

    /// The API keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Who bears this secret.
    ///
    /// # Errors
    /// `unauthenticated` if nobody does, or if the key was revoked.
    pub async fn authenticate(&self, presented: &str) -> Result<Principal, Problem> {
        let digest = secret::digest(presented);
        if digest == self.owner {
            return Ok(Principal::Owner);
        }
        if presented.starts_with(keys::PREFIX)
            && let Some(id) = self.keys.find(&digest).await?
        {
            return Ok(Principal::Key(id));
        }
        Err(Problem::new(
            ErrorCode::Unauthenticated,
            "this token or key is not known here, or was revoked; `rclaude key create NAME` on the \
             server's host makes a new one",
        ))
    }
}
