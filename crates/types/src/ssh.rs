//! Sessions over SSH: the public keys that open them, and where the door is.

use serde::{Deserialize, Serialize};

use crate::{SshKeyId, Timestamp};

/// Body of `POST /v1/ssh-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateSshKey {
    /// The key as OpenSSH writes it: a line of `id_ed25519.pub`. Ed25519 and ECDSA.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 4096))]
    pub public_key: String,
    /// Whose it is; the key's own comment if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub name: Option<String>,
}

/// A public key that opens every session over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshKey {
    /// Its id.
    pub id: SshKeyId,
    /// Whose it is.
    pub name: String,
    /// The key as OpenSSH writes it, without a comment.
    pub public_key: String,
    /// SHA-256 of the key, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last opened a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

/// Where a server lets SSH clients in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshDoor {
    /// `ADDRESS:PORT` that it listens on.
    pub address: String,
    /// The server's own public key, as `known_hosts` has it.
    pub host_key: String,
    /// SHA-256 of that key, as `ssh` shows it.
    pub fingerprint: String,
}
