//! How often a step was asked for: what faults with `times` need to know.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

/// Steps remembered at once; the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// Counts attempts by step.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_step: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Attempts {
    /// Counts one more attempt at `step`: 1 for the first.
    pub(crate) fn count(&self, step: u64) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut *counts;
        let attempt = counts.by_step.entry(step).or_insert(0);
        *attempt += 1;
        let attempt = *attempt;
        if attempt == 1 {
            counts.order.push_back(step);
            if counts.order.len() > REMEMBERED
                && let Some(oldest) = counts.order.pop_front()
            {
                counts.by_step.remove(&oldest);
            }
        }
        attempt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_by_step_and_the_oldest_steps_forgotten() {
        let attempts = Attempts::default();
        assert_eq!([attempts.count(7), attempts.count(7), attempts.count(8)], [1, 2, 1]);
        for step in 100..100 + REMEMBERED as u64 {
            attempts.count(step);
        }
        assert_eq!(attempts.count(7), 1);
    }
}
