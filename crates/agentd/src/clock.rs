//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

use rclaude_types::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the daemon's one reading of the clock")]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
