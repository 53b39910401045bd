//! Secrets: made at random, shown with care, kept as hashes.

use std::{fmt, io};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

/// A token or key in the clear. `Debug` does not show it.
#[derive(Clone)]
pub struct Secret(String);

/// Digits that carry 256 bits in base 62: 62^43 > 2^256.
pub(super) const DIGITS: usize = 43;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Secret {
    /// A new one: the prefix and 256 random bits in 43 base-62 digits.
    pub fn generate(prefix: &str) -> io::Result<Self> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes)
            .map_err(|_| io::Error::other("the system gives no randomness"))?;
        Ok(Self(format!("{prefix}{}", base62(bytes))))
    }

    /// One that exists.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<redacted>)")
    }
}

/// SHA-256 of a secret. Compares in constant time.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct Digest(pub(super) [u8; 32]);

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

pub(super) fn digest(secret: &str) -> Digest {
    Digest(Sha256::digest(secret.as_bytes()).into())
}

/// 256 random bits in hexadecimal, for secrets that no person ever sees.
pub(crate) fn random_hex() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel's randomness never fails once it is up");
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).flatten().collect()
}

/// Long division by 62, most significant digit first.
fn base62(mut number: [u8; 32]) -> String {
    let mut digits = [0; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u16;
        for byte in &mut number {
            let value = remainder << 8 | u16::from(*byte);
            *byte = u8::try_from(value / 62).expect("remainder < 62, so the quotient is < 256");
            remainder = value % 62;
        }
        *digit = ALPHABET[usize::from(remainder)];
    }
    digits.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_62_is_positional_and_of_fixed_length() {
        let mut one = [0; 32];
        one[31] = 1;
        assert_eq!(base62(one), format!("{}1", "0".repeat(42)));
        one[30] = 1;
        assert_eq!(base62(one), format!("{}49", "0".repeat(41)), "257 = 4 * 62 + 9");
        assert_eq!(base62([255; 32]).len(), DIGITS);
    }

    #[test]
    fn secrets_differ_and_do_not_show_themselves() {
        let [a, b] = [(); 2].map(|()| Secret::generate("rck_").unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(a.expose().len(), 4 + DIGITS);
        assert!(!format!("{a:?}").contains(a.expose()));
    }
}
