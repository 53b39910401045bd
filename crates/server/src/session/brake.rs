//! A brake for what keeps failing: each failure soon after the last waits longer.

use std::time::Duration;

use tokio::time::Instant;

/// What held this long has recovered.
const RECOVERED: Duration = Duration::from_mins(1);
/// The wait after the second failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often something failed lately.
#[derive(Debug, Default)]
pub(super) struct Brake {
    count: u32,
    last: Option<Instant>,
}

impl Brake {
    /// Notes a failure.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.duration_since(last) > RECOVERED) {
            self.count = 0;
        }
        self.count += 1;
        self.last = Some(now);
    }

    /// How long to let it be; the first failure costs nothing.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let (last, again) = (self.last?, self.count.checked_sub(2)?);
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(again)).min(LONGEST_WAIT);
        (last + wait).checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_costs_nothing_and_each_further_one_twice_the_last() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        let waits = [(); 4].map(|()| {
            brake.failed(now);
            brake.wait(now)
        });
        assert_eq!(waits, [None, Some(FIRST_WAIT), Some(FIRST_WAIT * 2), Some(FIRST_WAIT * 4)]);
        for _ in 0..50 {
            brake.failed(now);
        }
        assert_eq!(brake.wait(now), Some(LONGEST_WAIT));
    }

    #[test]
    fn one_that_held_for_long_starts_afresh() {
        let (mut brake, now) = (Brake::default(), Instant::now());
        brake.failed(now);
        brake.failed(now);
        brake.failed(now + RECOVERED * 2);
        assert_eq!(brake.wait(now + RECOVERED * 2), None);
    }
}
