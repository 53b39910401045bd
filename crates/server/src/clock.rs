//! What time it is, as something tests can set.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
};

use rclaude_types::Timestamp;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now. Never earlier than an answer given before, so that a log's times do not run back when
    /// the host's clock is set back.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicI64,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock everybody else asks")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let micros = since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        let latest = self.latest.fetch_max(micros, Ordering::Relaxed).max(micros);
        Timestamp::from_micros(latest)
    }
}
