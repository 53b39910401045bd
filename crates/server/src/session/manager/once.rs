//! Doing a request once, however often it comes.

use std::str::FromStr;

use rclaude_store::{StoreError, Tx, idempotency};
use rclaude_types::{ErrorCode, Problem, Timestamp};
use serde_json::Value;

use super::{Idempotency, SessionManager, problems::from_store};

/// What came of a request that may have come before.
#[derive(Debug)]
pub(super) enum Once<T> {
    /// It was done now.
    Done(T),
    /// It was done before: this names what it made.
    Before(String),
    /// The key came with another request before.
    Mismatch,
}

impl SessionManager {
    /// What a request made that was done before: to be answered before anything is checked that
    /// the request itself has changed, such as whether a name is free.
    pub(super) async fn made_before(
        &self,
        once: Option<&Idempotency>,
    ) -> Result<Option<String>, Problem> {
        let Some(once) = once else { return Ok(None) };
        let now = self.engine.now();
        let mut conn = self.engine.store.read().await.map_err(from_store)?;
        let found = idempotency::look(&mut conn, &once.key, &once.digest, now).await;
        match found.map_err(from_store)? {
            idempotency::Claim::New => Ok(None),
            idempotency::Claim::Same(Value::String(made)) => Ok(Some(made)),
            idempotency::Claim::Same(_) | idempotency::Claim::Mismatch => Err(mismatch()),
        }
    }
}

impl<T: FromStr> Once<T> {
    /// The id of what the request made, now or before.
    pub(super) fn id(self) -> Result<T, Problem> {
        match self {
            Self::Done(id) => Ok(id),
            Self::Before(first) => stored(&first),
            Self::Mismatch => Err(mismatch()),
        }
    }
}

/// An id as it was stored with a key.
pub(super) fn stored<T: FromStr>(id: &str) -> Result<T, Problem> {
    id.parse().map_err(|_| Problem::new(ErrorCode::Internal, "a stored id is damaged"))
}

/// Claims the request's key in the transaction that does it; `Some` if there is nothing to do.
pub(super) async fn claim<T>(
    tx: &mut Tx,
    once: Option<&Idempotency>,
    now: Timestamp,
) -> Result<Option<Once<T>>, StoreError> {
    let Some(once) = once else { return Ok(None) };
    Ok(match idempotency::claim(tx, &once.key, &once.digest, now).await? {
        idempotency::Claim::New => None,
        idempotency::Claim::Same(Value::String(made)) => Some(Once::Before(made)),
        idempotency::Claim::Same(_) | idempotency::Claim::Mismatch => Some(Once::Mismatch),
    })
}

/// Notes what the request made.
pub(super) async fn answer(
    tx: &mut Tx,
    once: Option<&Idempotency>,
    made: &str,
) -> Result<(), StoreError> {
    match once {
        Some(once) => idempotency::answer(tx, &once.key, &Value::from(made)).await,
        None => Ok(()),
    }
}

/// The problem of a key that came with another request.
pub(super) fn mismatch() -> Problem {
    Problem::new(
        ErrorCode::IdempotencyMismatch,
        "this Idempotency-Key was used for another request within the last day; use a new key",
    )
}
