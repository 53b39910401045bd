//! What proves to a sandbox's door that its bearer may use it: a token per sandbox, and
//! signatures of single files made with it. A token names its sandbox, for some SDKs send no other
//! name with a file.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use rclaude_types::{SessionId, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::id;

/// Keeps these tokens apart from others made with the same secret.
const PURPOSE: &str = "e2b-envd:";
const PREFIX: &str = "rce_";

/// Makes and checks tokens. Nothing is stored: whoever has the server's secret makes the same.
#[derive(Debug)]
pub(super) struct Tokens {
    key: hmac::Key,
}

/// A file operation that a signature may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Read,
    Write,
}

/// What a request brings in place of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) path: &'a str,
    pub(super) operation: Operation,
    /// As it is in the query; empty for the default.
    pub(super) user: &'a str,
    /// `v1_` and the digest.
    pub(super) signature: &'a str,
    /// Seconds since 1970 after which it is worth nothing.
    pub(super) expires: Option<i64>,
}

impl Signed<'_> {
    /// Whether its time is not over.
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|at| at >= now.as_micros() / 1_000_000)
    }
}

impl Tokens {
    pub(super) fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The sandbox's token, the same every time.
    pub(super) fn mint(&self, session: &SessionId) -> String {
        let tag = hmac::sign(&self.key, format!("{PURPOSE}{session}").as_bytes());
        let named = format!("{PREFIX}{}_", id::sandbox(session));
        tag.as_ref().iter().fold(named, |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(nibble), 16));
            }
            text
        })
    }

    /// Whether this is the sandbox's token.
    pub(super) fn is_of(&self, session: &SessionId, token: &str) -> bool {
        self.mint(session).as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// Whether a signature was made with the sandbox's token and still counts.
    pub(super) fn signed(&self, session: &SessionId, signed: Signed<'_>, now: Timestamp) -> bool {
        let wanted = signature(&self.mint(session), signed);
        signed.is_alive(now) && bool::from(wanted.as_bytes().ct_eq(signed.signature.as_bytes()))
    }
}

/// The sandbox that a token names, whether it proves anything or not.
pub(super) fn named(token: &str) -> Option<&str> {
    token.strip_prefix(PREFIX)?.split_once('_').map(|(name, _)| name)
}

/// As E2B's SDKs make it: of path, operation, user and token, and the expiry if there is one.
fn signature(token: &str, signed: Signed<'_>) -> String {
    let Signed { path, operation, user, expires, .. } = signed;
    let word = match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    };
    let expires = expires.map(|at| format!(":{at}")).unwrap_or_default();
    let digest = Sha256::digest(format!("{path}:{word}:{user}:{token}{expires}"));
    format!("v1_{}", BASE64_STANDARD_NO_PAD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(signature: &str, expires: Option<i64>) -> Signed<'_> {
        Signed { path: "a b", operation: Operation::Read, user: "", signature, expires }
    }

    #[test]
    fn a_token_is_its_sandboxes_alone() {
        let tokens = Tokens::new(&[7; 32]);
        let (one, other) = (SessionId::generate(), SessionId::generate());
        let token = tokens.mint(&one);
        assert!(tokens.is_of(&one, &token) && !tokens.is_of(&other, &token));
        assert_eq!(named(&token), Some(&*id::sandbox(&one)));
        assert_eq!(named("rct_x_y"), None);
        assert!(!Tokens::new(&[8; 32]).is_of(&one, &token), "another server's");
        assert!(!tokens.is_of(&one, "") && !tokens.is_of(&one, &token[..token.len() - 1]));
    }

    #[test]
    fn a_signature_is_made_as_the_sdks_make_it() {
        // Made with e2b 2.63.0, whose clock stood at 0.
        let read = Signed { path: "/f", user: "root", ..signed("", Some(5)) };
        assert_eq!(signature("tok", read), "v1_9TicyK39FDey5quu8WOvv+zRnZzjQzuEnV3s7ww+GX8");
        let write = Signed { operation: Operation::Write, ..signed("", None) };
        assert_eq!(signature("tok", write), "v1_y3pHPJkPc1y3lOlnG3LVwaBVvCMiplia6J0VtEq0er4");
    }

    #[test]
    fn a_signature_counts_for_its_file_and_operation_until_it_expires() {
        let tokens = Tokens::new(&[7; 32]);
        let session = SessionId::generate();
        let token = tokens.mint(&session);
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let good = signature(&token, signed("", Some(100)));
        assert!(tokens.signed(&session, signed(&good, Some(100)), at(100)));
        assert!(!tokens.signed(&session, signed(&good, Some(100)), at(101)), "too late");
        assert!(!tokens.signed(&session, signed(&good, Some(101)), at(1)), "prolonged");
        assert!(!tokens.signed(&session, signed(&good, None), at(1)), "made endless");
        let write = Signed { operation: Operation::Write, ..signed(&good, Some(100)) };
        assert!(!tokens.signed(&session, write, at(1)), "another operation");
        let other = Signed { path: "c", ..signed(&good, Some(100)) };
        assert!(!tokens.signed(&session, other, at(1)), "another file");
    }
}
