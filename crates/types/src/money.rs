//! Money as whole millionths of a US dollar.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// An amount in millionths of a US dollar. Adding saturates: a bill never wraps round.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MicroUsd(pub i64);

impl Add for MicroUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self(0), Add::add)
    }
}

impl fmt::Display for MicroUsd {
    /// Cents where they suffice, four decimals below a cent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let micros = self.0.unsigned_abs();
        if micros == 0 || micros >= 10_000 {
            let cents = micros / 10_000 + u64::from(micros % 10_000 >= 5_000);
            write!(f, "{sign}${}.{:02}", cents / 100, cents % 100)
        } else {
            let hundredths = micros / 100 + u64::from(micros % 100 >= 50);
            write!(f, "{sign}${}.{:04}", hundredths / 10_000, hundredths % 10_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_as_cents_and_small_ones_as_hundredths_of_a_cent() {
        let shown = [0, 49, 50, 1_234, 9_999, 10_000, 1_235_000, -20_000]
            .map(|micros| MicroUsd(micros).to_string());
        assert_eq!(
            shown,
            ["$0.00", "$0.0000", "$0.0001", "$0.0012", "$0.0100", "$0.01", "$1.24", "-$0.02"]
        );
    }
}
