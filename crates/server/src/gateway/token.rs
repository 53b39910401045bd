//! What a session's agent shows the gateway: a token that names the session and proves it.
//!
//! `rcs_<session id>_<hex HMAC-SHA-256 of the session id>`. Nothing is stored: whoever has the
//! server's secret can recompute it, and it is worthless outside the session's own sandbox.

use aws_lc_rs::hmac;
use rclaude_types::SessionId;

const PREFIX: &str = "rcs_";

/// Makes and checks session tokens.
#[derive(Debug, Clone)]
pub struct SessionTokens {
    key: hmac::Key,
}

impl SessionTokens {
    /// With the server's secret; 32 random bytes, kept in its data directory.
    pub fn new(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The session's token, the same every time.
    pub fn mint(&self, session: &SessionId) -> String {
        let tag = hmac::sign(&self.key, session.as_str().as_bytes());
        let mut token = format!("{PREFIX}{session}_");
        for byte in tag.as_ref() {
            for nibble in [byte >> 4, byte & 15] {
                token.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        token
    }

    /// The session a token was made for, or `None` for anything this server did not make. Takes
    /// the same time whatever is wrong with the proof.
    pub fn verify(&self, token: &str) -> Option<SessionId> {
        let (session, proof) = token.strip_prefix(PREFIX)?.rsplit_once('_')?;
        let tag = unhex(proof)?;
        hmac::verify(&self.key, session.as_bytes(), &tag).ok()?;
        session.parse().ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        })
        .collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_proves_its_own_session() {
        let tokens = SessionTokens::new(&[7; 32]);
        let session = SessionId::generate();
        let token = tokens.mint(&session);
        assert!(token.starts_with(&format!("rcs_{session}_")), "{token}");
        assert_eq!(tokens.verify(&token), Some(session));
    }

    #[test]
    fn anything_this_server_did_not_make_is_refused() {
        let tokens = SessionTokens::new(&[7; 32]);
        let token = tokens.mint(&SessionId::generate());
        let other_session = token.replace(&token[4..40], SessionId::generate().as_str());
        let other_secret = SessionTokens::new(&[8; 32]).mint(&SessionId::generate());
        let mut flipped = token.clone();
        flipped.pop();
        flipped.push(if token.ends_with('0') { '1' } else { '0' });
        for forged in [
            "",
            "rcs_",
            "rcs__",
            &token[4..],
            &token[..60],
            &other_session,
            &other_secret,
            &flipped,
        ] {
            assert_eq!(tokens.verify(forged), None, "{forged}");
        }
    }
}
