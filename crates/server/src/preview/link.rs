//! Links: a word that lets whoever has it see one port of one session until a moment.
//!
//! `<seconds since 1970>.<base64url HMAC-SHA-256>`. Nothing is stored; a link ends with its time, its
//! session, or the server's secret.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rclaude_types::{SessionId, Timestamp};

/// What it is called in a query and as a cookie.
pub(super) const NAME: &str = "rclaude-access";

/// Makes and checks links.
#[derive(Debug)]
pub(super) struct LinkKey(hmac::Key);

impl LinkKey {
    /// With the server's secret.
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A word good until `expires_at`.
    pub(super) fn sign(&self, session: &SessionId, port: u16, expires_at: Timestamp) -> String {
        let expires = expires_at.as_micros() / 1_000_000;
        let tag = hmac::sign(&self.0, signed(session, port, expires).as_bytes());
        format!("{expires}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Until when (in seconds since 1970) a word is good for this port; `None` if it is not, or no
    /// longer.
    pub(super) fn verify(
        &self,
        session: &SessionId,
        port: u16,
        word: &str,
        now: Timestamp,
    ) -> Option<i64> {
        let (expires, tag) = word.split_once('.')?;
        let expires: i64 = expires.parse().ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.0, signed(session, port, expires).as_bytes(), &tag).ok()?;
        (now.as_micros() / 1_000_000 < expires).then_some(expires)
    }
}

/// No other text that the same secret signs begins so.
fn signed(session: &SessionId, port: u16, expires: i64) -> String {
    format!("preview {session} {port} {expires}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_link_is_for_its_port_of_its_session_until_its_time() {
        let key = LinkKey::new(&[7; 32]);
        let [mine, other] = [(); 2].map(|()| SessionId::generate());
        let word = key.sign(&mine, 3000, at(1000));
        assert_eq!(key.verify(&mine, 3000, &word, at(999)), Some(1000));
        assert_eq!(key.verify(&mine, 3000, &word, at(1000)), None);
        assert_eq!(key.verify(&other, 3000, &word, at(1)), None);
        assert_eq!(key.verify(&mine, 3001, &word, at(1)), None);
        assert_eq!(LinkKey::new(&[8; 32]).verify(&mine, 3000, &word, at(1)), None);
        let longer = word.replacen("1000", "2000", 1);
        assert_eq!(key.verify(&mine, 3000, &longer, at(1)), None);
        for bad in ["", ".", "1000", "1000.", "x.00", &word[..word.len() - 1]] {
            assert_eq!(key.verify(&mine, 3000, bad, at(1)), None, "{bad}");
        }
    }
}
