//! One at a time, by name.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

type One = tokio::sync::Mutex<()>;

/// A lock for every name that somebody uses.
#[derive(Debug)]
pub(super) struct Locks<K>(Mutex<HashMap<K, Weak<One>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Locks<K> {
    /// Waits until nobody else has this name.
    pub(super) async fn lock(&self, name: &K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
                lock
            } else {
                let lock = Arc::new(One::default());
                locks.insert(name.clone(), Arc::downgrade(&lock));
                lock
            }
        };
        lock.lock_owned().await
    }
}
