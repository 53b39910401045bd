//! API keys: made, known by their hash, revoked.
//!
//! A key that was found good is remembered for a few seconds, so that a client's hundredth request
//! costs no query. Revoking forgets it at once here; a second server on the same database notices
//! when its memory runs out. The epoch closes the gap in between: what was read before a
//! revocation is not remembered after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rclaude_store::{
    Store, StoreError,
    idempotency::{self, Claim},
    key,
};
use rclaude_types::{ApiKey, CreatedKey, ErrorCode, KeyId, Problem, Timestamp};

use super::secret::{Digest, Secret};
use crate::{clock::Clock, session::manager::Idempotency};

/// What every API key starts with.
pub(super) const PREFIX: &str = "rck_";
/// Characters of a secret that are shown in lists: the prefix and four of its 43 digits.
const HINT: usize = PREFIX.len() + 4;
/// How long a key found good is taken for good, in microseconds.
const REMEMBERED: i64 = 10_000_000;
/// Keys remembered at most.
const MAX_REMEMBERED: usize = 4096;
/// `last_used_at` is kept to the minute, in microseconds.
const MINUTE: i64 = 60_000_000;

/// The API keys.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Counts revocations.
    epoch: u64,
    good: HashMap<[u8; 32], Good>,
}

#[derive(Debug)]
struct Good {
    id: KeyId,
    checked: Timestamp,
    /// The minute of `last_used_at`.
    noted: i64,
}

impl Keys {
    /// The keys in this store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, memory: Mutex::default() }
    }

    /// Makes a key; its secret is in the answer and nowhere else. A repeated request cannot be
    /// given it again, so with the same idempotency key it is a conflict.
    pub async fn create(
        &self,
        name: String,
        once: Option<Idempotency>,
    ) -> Result<CreatedKey, Problem> {
        let secret = Secret::generate(PREFIX)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        let now = self.clock.now();
        let key = ApiKey {
            id: KeyId::generate(),
            name,
            hint: secret.expose()[..HINT].to_owned(),
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        };
        let Digest(hash) = super::secret::digest(secret.expose());
        let row = key.clone();
        let claim = self
            .store
            .write(async move |tx| {
                let claim = match once {
                    Some(once) => idempotency::claim(tx, &once.key, &once.digest, now).await?,
                    None => Claim::New,
                };
                if claim == Claim::New {
                    key::insert(tx, &row, &hash).await?;
                }
                Ok(claim)
            })
            .await
            .map_err(|error| from_store(&error))?;
        match claim {
            Claim::New => Ok(CreatedKey { key, secret: secret.expose().to_owned() }),
            Claim::Same(_) => Err(Problem::new(
                ErrorCode::Conflict,
                "this request already made a key, and a key's secret is shown once; revoke that \
                 key and make another",
            )),
            Claim::Mismatch => Err(Problem::new(
                ErrorCode::IdempotencyMismatch,
                "this idempotency key came with another request before",
            )),
        }
    }

    /// All keys, revoked ones included, newest first.
    pub async fn list(&self) -> Result<Vec<ApiKey>, Problem> {
        let mut conn = self.store.read().await.map_err(|error| from_store(&error))?;
        key::list(&mut conn).await.map_err(|error| from_store(&error))
    }

    /// Revokes a key, from the next request on. Revoking it twice is fine.
    pub async fn revoke(&self, id: &KeyId) -> Result<ApiKey, Problem> {
        let (wanted, now) = (id.clone(), self.clock.now());
        let revoked = self.store.write(async move |tx| key::revoke(tx, &wanted, now).await).await;
        let mut memory = self.memory();
        memory.epoch += 1;
        memory.good.retain(|_, good| good.id != *id);
        revoked.map_err(|error| from_store(&error))
    }

    /// The key of this hash, unless there is none or it was revoked.
    pub(super) async fn find(&self, digest: &Digest) -> Result<Option<KeyId>, Problem> {
        let now = self.clock.now();
        let minute = now.as_micros() / MINUTE;
        let epoch = {
            let mut memory = self.memory();
            if let Some(good) = memory.good.get_mut(&digest.0)
                && now.as_micros() - good.checked.as_micros() < REMEMBERED
                && good.noted == minute
            {
                return Ok(Some(good.id.clone()));
            }
            memory.epoch
        };
        let mut conn = self.store.read().await.map_err(|error| from_store(&error))?;
        let found =
            key::find_by_hash(&mut conn, &digest.0).await.map_err(|error| from_store(&error))?;
        drop(conn);
        let Some(found) = found else { return Ok(None) };
        let noted = found.last_used_at.map(|at| at.as_micros() / MINUTE);
        if noted != Some(minute) {
            self.note_use(&found.id, Timestamp::from_micros(minute * MINUTE)).await;
        }
        let mut memory = self.memory();
        if memory.epoch == epoch {
            if memory.good.len() >= MAX_REMEMBERED {
                memory.good.clear();
            }
            let good = Good { id: found.id.clone(), checked: now, noted: minute };
            memory.good.insert(digest.0, good);
        }
        Ok(Some(found.id))
    }

    /// A full disk must not lock anybody out, so this may fail.
    async fn note_use(&self, id: &KeyId, at: Timestamp) {
        let used = id.clone();
        if let Err(error) = self.store.write(async move |tx| key::touch(tx, &used, at).await).await
        {
            tracing::warn!(key.id = %id, error = %error, "cannot note that {id} was used: {error}");
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing in there can be left half-done, so a panic elsewhere spoils nothing.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn from_store(error: &StoreError) -> Problem {
    let code = match error {
        StoreError::NotFound { .. } => ErrorCode::KeyNotFound,
        StoreError::DiskFull => ErrorCode::DiskFull,
        _ => {
            tracing::error!(%error, "the store failed: {error}");
            return Problem::new(
                ErrorCode::Internal,
                "the server's database failed; its log says how",
            );
        }
    };
    Problem::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::{super::secret::digest, *};

    #[derive(Debug, Default)]
    struct Hand(AtomicI64);

    impl Hand {
        fn turn(&self, micros: i64) {
            self.0.fetch_add(micros, Ordering::Relaxed);
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed))
        }
    }

    struct Fixture {
        keys: Keys,
        clock: Arc<Hand>,
        store: Store,
        _dir: tempfile::TempDir,
    }

    async fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("rclaude.db")).await.unwrap();
        let clock = Arc::new(Hand::default());
        Fixture { keys: Keys::new(store.clone(), clock.clone()), clock, store, _dir: dir }
    }

    fn once(key: &str, digest: u8) -> Idempotency {
        Idempotency { key: key.to_owned(), digest: [digest; 32] }
    }

    #[tokio::test]
    async fn a_key_is_known_until_it_is_revoked() {
        let it = fixture().await;
        let made = it.keys.create("ci".into(), None).await.unwrap();
        assert!(made.secret.starts_with(&made.key.hint));
        let hash = digest(&made.secret);
        for _ in 0..2 {
            assert_eq!(it.keys.find(&hash).await.unwrap(), Some(made.key.id.clone()));
        }
        it.keys.revoke(&made.key.id).await.unwrap();
        assert_eq!(it.keys.find(&hash).await.unwrap(), None);
        it.keys.revoke(&made.key.id).await.unwrap();
        assert_eq!(it.keys.find(&digest("rck_other")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_key_revoked_by_another_server_is_good_for_seconds_at_most() {
        let it = fixture().await;
        let made = it.keys.create("ci".into(), None).await.unwrap();
        let hash = digest(&made.secret);
        it.keys.find(&hash).await.unwrap();
        let other = Keys::new(it.store.clone(), it.clock.clone());
        other.revoke(&made.key.id).await.unwrap();
        it.clock.turn(REMEMBERED);
        assert_eq!(it.keys.find(&hash).await.unwrap(), None);
    }

    #[tokio::test]
    async fn use_is_noted_to_the_minute() {
        let it = fixture().await;
        let made = it.keys.create("ci".into(), None).await.unwrap();
        it.clock.turn(MINUTE + 1);
        it.keys.find(&digest(&made.secret)).await.unwrap();
        let used = it.keys.list().await.unwrap()[0].last_used_at;
        assert_eq!(used, Some(Timestamp::from_micros(MINUTE)));
        it.clock.turn(MINUTE);
        it.keys.find(&digest(&made.secret)).await.unwrap();
        let used = it.keys.list().await.unwrap()[0].last_used_at;
        assert_eq!(used, Some(Timestamp::from_micros(2 * MINUTE)));
    }

    #[tokio::test]
    async fn a_repeated_request_makes_no_second_key() {
        let it = fixture().await;
        it.keys.create("ci".into(), Some(once("k", 1))).await.unwrap();
        let same = it.keys.create("ci".into(), Some(once("k", 1))).await.unwrap_err();
        let other = it.keys.create("cd".into(), Some(once("k", 2))).await.unwrap_err();
        assert_eq!(same.code, ErrorCode::Conflict);
        assert_eq!(other.code, ErrorCode::IdempotencyMismatch);
        assert_eq!(it.keys.list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn revoking_an_unknown_key_says_so() {
        let it = fixture().await;
        let refused = it.keys.revoke(&KeyId::generate()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::KeyNotFound);
    }
}
