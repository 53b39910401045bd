//! What is being spoken, from its first bytes.

/// A protocol that is answered in its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1, or HTTP/2 without TLS.
    Http,
    /// A TLS handshake.
    Tls,
    /// An SSH client.
    Ssh,
    /// Git's own protocol.
    Git,
    /// Anything else.
    Other,
}

/// The longest HTTP method worth waiting for.
const METHOD: usize = 24;

/// Reads the first bytes; `None` if they could still become several things.
pub(super) fn spoken(bytes: &[u8]) -> Option<Spoken> {
    let begins = |with: &[u8]| {
        let len = with.len().min(bytes.len());
        (bytes[..len] == with[..len]).then_some(len == with.len())
    };
    match bytes.first()? {
        // Record type handshake, major version 3 (RFC 8446 §5.1).
        0x16 => begins(&[0x16, 3]).map_or(Some(Spoken::Other), |all| all.then_some(Spoken::Tls)),
        // A packet's length in four hexadecimal digits (gitprotocol-pack(5)).
        b'0' => match bytes.get(4..) {
            None | Some([]) => None,
            Some(rest) => {
                let len = rest.len().min(4);
                match rest[..len] == b"git-"[..len] {
                    true if len == 4 => Some(Spoken::Git),
                    true => None,
                    false => Some(Spoken::Other),
                }
            }
        },
        _ if begins(b"SSH-") == Some(true) => Some(Spoken::Ssh),
        _ => {
            let method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
            match bytes.iter().position(|byte| !method(byte)) {
                Some(at) if at > 0 && at <= METHOD && bytes[at] == b' ' => Some(Spoken::Http),
                None if bytes.len() <= METHOD => None,
                _ => Some(Spoken::Other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn protocols_are_told_apart_however_the_bytes_come() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], Spoken::Http),
            (b"CONNECT a:1 HTTP/1.1\r\n", Spoken::Http),
            (b"M-SEARCH * HTTP/1.1\r\n", Spoken::Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Spoken::Http),
            (b"\x16\x03\x01\x02\x00\x01", Spoken::Tls),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Spoken::Ssh),
            (b"003egit-upload-pack /a\0host=b\0", Spoken::Git),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Spoken::Other),
            (b"hello\r\n", Spoken::Other),
            (b"EHLO\r\n", Spoken::Other),
        ] {
            assert_eq!(spoken(bytes), Some(wanted));
            let first = (1..=bytes.len()).find_map(|len| spoken(&bytes[..len]));
            assert_eq!(first, Some(wanted), "byte by byte: {}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_keeps_it_guessing(bytes in proptest::collection::vec(any::<u8>(), 32..64)) {
            prop_assert!(spoken(&bytes).is_some());
        }
    }
}
