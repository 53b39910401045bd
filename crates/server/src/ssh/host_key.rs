//! Ed25519 key pairs: the server's own, and those made for users who have none.

use std::{fs, io, path::Path};

use rclaude_types::SshDoor;
use russh::keys::{
    HashAlg, PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};

use crate::config::write_private;

/// The file in the data directory.
const FILE: &str = "ssh_host_ed25519_key";

/// A new key pair, as OpenSSH keeps it in files.
#[derive(Clone)]
pub struct Identity {
    /// The content of the private file.
    pub private: String,
    /// The line of the public one.
    pub public: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a key pair for a user.
pub fn new_identity(comment: &str) -> io::Result<Identity> {
    let key = generate(comment)?;
    let private = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?.to_string();
    let public = key.public_key().to_openssh().map_err(io::Error::other)?;
    Ok(Identity { private, public })
}

/// The server's key; made on first use.
pub(super) fn host_key(data_dir: &Path) -> io::Result<PrivateKey> {
    let path = data_dir.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => PrivateKey::from_openssh(bytes).map_err(|error| {
            let what = format!("{} is no SSH key ({error}); ", path.display());
            let how = "restore it, or remove it: a new one is made, which clients must be told of";
            io::Error::new(io::ErrorKind::InvalidData, what + how)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = generate("rclaude")?;
            let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
            write_private(&path, text.as_bytes())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// How a server with this key is told of.
pub(super) fn door(address: std::net::SocketAddr, key: &PrivateKey) -> io::Result<SshDoor> {
    let mut public = key.public_key().clone();
    public.set_comment("");
    Ok(SshDoor {
        address: address.to_string(),
        host_key: public.to_openssh().map_err(io::Error::other)?,
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
    })
}

fn generate(comment: &str) -> io::Result<PrivateKey> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no randomness"))?;
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_servers_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = host_key(dir.path()).unwrap();
        assert_eq!(host_key(dir.path()).unwrap().public_key(), first.public_key());
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(FILE), "damaged").unwrap();
        let error = host_key(dir.path()).unwrap_err().to_string();
        assert!(error.contains(FILE) && error.contains("restore it"), "{error}");
    }
}
