//! What time it is, as something tests can set.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use rclaude_types::Timestamp;

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Now. Never earlier than an answer given before, so that a log's times do not run back when
    /// the host's clock is set back.
    fn now(&self) -> Timestamp;
}

/// The host's clock, without its leaps.
///
/// Small corrections are followed as they come. A leap (somebody set the clock, a wrong source was
/// believed for a moment) is not: time goes on as it did, counted from the host's start, so that no
/// session is billed for hours that never were and none goes uncounted. A leap forward that is
/// still there after a minute is the truth and taken over; one backward is taken over by the next
/// start of the server.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicI64,
    anchor: Mutex<Option<Anchor>>,
}

/// A moment on both clocks, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    /// Since 1970.
    wall: i64,
    /// Since the host started, sleep included.
    up: i64,
    /// Since when the two disagree.
    apart: Option<i64>,
}

/// A correction up to this is no leap.
const SMALL: i64 = 1_000_000;
/// How long a leap forward has to last to be believed.
const LASTING: i64 = 60_000_000;

impl Anchor {
    /// What time it is when the two clocks say this.
    fn tell(&mut self, wall: i64, up: i64) -> i64 {
        let expected = self.wall + (up - self.up);
        let leap = wall - expected;
        let since = *self.apart.get_or_insert(up);
        if leap.abs() < SMALL || (leap > 0 && up - since >= LASTING) {
            *self = Self { wall, up, apart: None };
            return wall;
        }
        expected
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock everybody else asks")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall = since.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let up = up.tv_sec * 1_000_000 + up.tv_nsec / 1_000;
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let told = anchor.get_or_insert(Anchor { wall, up, apart: None }).tell(wall, up);
        drop(anchor);
        Timestamp::from_micros(self.latest.fetch_max(told, Ordering::Relaxed).max(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn small_corrections_are_followed_and_leaps_are_not() {
        let mut anchor = Anchor { wall: 1_000 * SECOND, up: 0, apart: None };
        assert_eq!(anchor.tell(1_010 * SECOND + 5, 10 * SECOND), 1_010 * SECOND + 5);
        let hour = 3_600 * SECOND;
        assert_eq!(anchor.tell(1_011 * SECOND + hour, 11 * SECOND), 1_011 * SECOND + 5);
        assert_eq!(anchor.tell(1_012 * SECOND - hour, 12 * SECOND), 1_012 * SECOND + 5);
        assert_eq!(anchor.tell(1_013 * SECOND, 13 * SECOND), 1_013 * SECOND);
    }

    #[test]
    fn a_leap_forward_that_lasts_is_believed_and_one_backward_is_not() {
        let hour = 3_600 * SECOND;
        let mut anchor = Anchor { wall: 2 * hour, up: 0, apart: None };
        for second in 1..60 {
            let now = second * SECOND;
            assert_eq!(anchor.tell(3 * hour + now, now), 2 * hour + now);
        }
        assert_eq!(anchor.tell(3 * hour + 61 * SECOND, 61 * SECOND), 3 * hour + 61 * SECOND);
        for second in 62..600 {
            let now = second * SECOND;
            assert_eq!(anchor.tell(hour + now, now), 3 * hour + now);
        }
    }

    #[test]
    fn time_never_runs_back() {
        let clock = SystemClock::default();
        let mut before = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= before);
            before = now;
        }
    }
}
