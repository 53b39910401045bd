//! Public keys that open sessions.

use std::sync::Arc;

use rclaude_store::{
    Store, StoreError,
    idempotency::{self, Claim},
    ssh_key,
};
use rclaude_types::{CreateSshKey, ErrorCode, Problem, SshKey, SshKeyId};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use tokio::sync::broadcast;

use crate::{clock::Clock, session::manager::Idempotency};

/// Characters of a name that is taken from a key's own comment.
const MAX_NAME: usize = 200;

/// The public keys in the store.
#[derive(Debug)]
pub struct SshKeys {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Told of keys that open nothing any more.
    removed: broadcast::Sender<SshKeyId>,
}

impl SshKeys {
    /// The keys in this store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, removed: broadcast::Sender::new(64) }
    }

    /// Adds a key. One that is there already is answered as it is.
    pub async fn add(
        &self,
        request: CreateSshKey,
        once: Option<Idempotency>,
    ) -> Result<SshKey, Problem> {
        let public = parse(&request.public_key)?;
        let now = self.clock.now();
        let key = SshKey {
            id: SshKeyId::generate(),
            name: request.name.unwrap_or_else(|| name_of(&public)),
            public_key: bare(&public)?,
            fingerprint: fingerprint(&public),
            created_at: now,
            last_used_at: None,
        };
        let added = self.store.write(async move |tx| {
            if let Some(once) = once
                && idempotency::claim(tx, &once.key, &once.digest, now).await? == Claim::Mismatch
            {
                return Ok(None);
            }
            ssh_key::insert_or_adopt(tx, &key).await.map(Some)
        });
        added.await.map_err(|error| from_store(&error))?.ok_or_else(|| {
            let detail = "this idempotency key came with another request before";
            Problem::new(ErrorCode::IdempotencyMismatch, detail)
        })
    }

    /// All keys, newest first.
    pub async fn list(&self) -> Result<Vec<SshKey>, Problem> {
        let mut conn = self.store.read().await.map_err(|error| from_store(&error))?;
        ssh_key::list(&mut conn).await.map_err(|error| from_store(&error))
    }

    /// Removes a key. Connections that it opened end.
    pub async fn remove(&self, id: &SshKeyId) -> Result<(), Problem> {
        let wanted = id.clone();
        let removed = self.store.write(async move |tx| ssh_key::remove(tx, &wanted).await).await;
        // Nobody may be connected.
        let _ = self.removed.send(id.clone());
        removed.map_err(|error| from_store(&error))
    }

    /// The key with this public half, if it opens anything.
    pub(super) async fn find(&self, public: &PublicKey) -> Result<Option<SshKeyId>, StoreError> {
        let mut conn = self.store.read().await?;
        let found = ssh_key::find(&mut conn, &fingerprint(public)).await?;
        Ok(found.map(|key| key.id))
    }

    /// Notes that a key opened a connection. A full disk must not lock anybody out, so this may
    /// fail.
    pub(super) async fn note_use(&self, id: &SshKeyId) {
        let (used, now) = (id.clone(), self.clock.now());
        let noted = self.store.write(async move |tx| ssh_key::touch(tx, &used, now).await).await;
        if let Err(error) = noted {
            tracing::warn!(ssh_key.id = %id, %error, "cannot note that an SSH key was used");
        }
    }

    /// Keys as they are removed.
    pub(super) fn removals(&self) -> broadcast::Receiver<SshKeyId> {
        self.removed.subscribe()
    }
}

/// SHA-256, as `ssh-keygen -l` shows it.
pub(super) fn fingerprint(public: &PublicKey) -> String {
    public.fingerprint(HashAlg::Sha256).to_string()
}

fn parse(text: &str) -> Result<PublicKey, Problem> {
    let invalid =
        |why: String| Problem::new(ErrorCode::InvalidRequest, format!("public_key: {why}"));
    if text.contains("PRIVATE KEY") {
        let why = "this is a private key, which is nobody else's business; give the file beside \
                   it that ends in .pub";
        return Err(invalid(why.to_owned()));
    }
    let key = PublicKey::from_openssh(text.trim()).map_err(|error| {
        invalid(format!("not a public key as OpenSSH writes it, such as id_ed25519.pub ({error})"))
    })?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        other => Err(invalid(format!(
            "{other} keys are not taken, Ed25519 and ECDSA keys are; `ssh-keygen -t ed25519` makes \
             one, and `rclaude ssh-config` does so by itself"
        ))),
    }
}

/// The key without its comment.
fn bare(public: &PublicKey) -> Result<String, Problem> {
    let mut public = public.clone();
    public.set_comment("");
    public.to_openssh().map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))
}

/// What a key calls itself.
fn name_of(public: &PublicKey) -> String {
    let comment: String = public.comment().to_string().chars().take(MAX_NAME).collect();
    let comment = comment.trim();
    if comment.is_empty() { fingerprint(public) } else { comment.to_owned() }
}

fn from_store(error: &StoreError) -> Problem {
    let code = match error {
        StoreError::NotFound { .. } => ErrorCode::SshKeyNotFound,
        StoreError::DiskFull => ErrorCode::DiskFull,
        _ => {
            tracing::error!(%error, "the store failed: {error}");
            let detail = "the server's database failed; its log says how";
            return Problem::new(ErrorCode::Internal, detail);
        }
    };
    Problem::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, ssh::new_identity};

    async fn keys(dir: &std::path::Path) -> SshKeys {
        let store = Store::open(dir.join("rclaude.db")).await.unwrap();
        SshKeys::new(store, Arc::new(SystemClock::default()))
    }

    fn request(public_key: &str) -> CreateSshKey {
        CreateSshKey { public_key: public_key.to_owned(), name: None }
    }

    #[tokio::test]
    async fn a_key_is_known_by_its_public_half_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path()).await;
        let identity = new_identity("me@laptop").unwrap();
        let public = PublicKey::from_openssh(&identity.public).unwrap();
        assert_eq!(keys.find(&public).await.unwrap(), None);
        let added = keys.add(request(&identity.public), None).await.unwrap();
        assert_eq!(added.name, "me@laptop");
        assert!(!added.public_key.contains("me@laptop"));
        assert_eq!(keys.add(request(&added.public_key), None).await.unwrap(), added);
        assert_eq!(keys.find(&public).await.unwrap(), Some(added.id.clone()));

        let mut removals = keys.removals();
        keys.remove(&added.id).await.unwrap();
        assert_eq!(removals.recv().await.unwrap(), added.id);
        assert_eq!(keys.find(&public).await.unwrap(), None);
        let refused = keys.remove(&added.id).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SshKeyNotFound);
    }

    #[tokio::test]
    async fn what_is_no_public_key_that_can_be_used_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys(dir.path()).await;
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 me";
        let private = new_identity("me").unwrap().private;
        for (text, word) in
            [(private.as_str(), "private key"), ("hello", "id_ed25519.pub"), (rsa, "")]
        {
            let refused = keys.add(request(text), None).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::InvalidRequest);
            assert!(refused.detail.contains(word), "{}", refused.detail);
        }
        assert!(keys.list().await.unwrap().is_empty());
    }
}
