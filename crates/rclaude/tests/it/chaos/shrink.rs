//! Making a run that fails short: leaving out what it fails without.

use std::time::{Duration, Instant};

/// A short list of the places in a run of `length` steps with which `fails` still says so: delta
/// debugging (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input", 2002), for
/// as long as it may take.
pub(super) fn shrink(
    length: usize,
    limit: Duration,
    mut fails: impl FnMut(&[usize]) -> bool,
) -> Vec<usize> {
    let until = Instant::now() + limit;
    let mut kept: Vec<usize> = (0..length).collect();
    let mut pieces = 2;
    while kept.len() > 1 && Instant::now() < until {
        let size = kept.len().div_ceil(pieces);
        let shorter = (0..kept.len()).step_by(size).find_map(|from| {
            let (before, rest) = kept.split_at(from);
            let without = [before, &rest[size.min(rest.len())..]].concat();
            (!without.is_empty() && Instant::now() < until && fails(&without)).then_some(without)
        });
        match shorter {
            Some(shorter) => {
                kept = shorter;
                pieces = (pieces - 1).max(2);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(kept.len()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_to_fail_is_what_is_left() {
        let needed = [3, 17, 18];
        let fails = |kept: &[usize]| needed.iter().all(|place| kept.contains(place));
        assert_eq!(shrink(40, Duration::from_mins(1), fails), needed);
        assert_eq!(shrink(40, Duration::ZERO, fails).len(), 40);
    }
}
