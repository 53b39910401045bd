//! Which headers pass, in each direction.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers that speak of one connection, not of the message (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The token a client shows: as a bearer, else as an API key.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or_else(|| headers.get(API_KEY)?.to_str().ok())
}

/// Makes a client's headers the upstream's: its credentials give way to ours.
pub(super) fn for_upstream(headers: &mut HeaderMap, (name, key): &(HeaderName, HeaderValue)) {
    drop_hop_by_hop(headers);
    for name in [header::HOST, header::AUTHORIZATION, API_KEY, header::EXPECT] {
        headers.remove(name);
    }
    headers.insert(name, key.clone());
    // The meter reads what comes back, so it must come as it is.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Makes an upstream's headers the client's.
pub(super) fn for_client(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    // `Connection` may name more of them.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_token_is_read_from_either_header() {
        assert_eq!(presented(&map(&[("authorization", "bearer  t")])), Some("t"));
        assert_eq!(presented(&map(&[("x-api-key", "k")])), Some("k"));
        assert_eq!(presented(&map(&[("authorization", "Basic x"), ("x-api-key", "k")])), Some("k"));
        assert_eq!(presented(&map(&[])), None);
    }

    #[test]
    fn only_what_speaks_of_the_message_reaches_the_upstream() {
        let mut headers = map(&[
            ("host", "gateway.rclaude"),
            ("authorization", "Bearer token"),
            ("x-api-key", "token"),
            ("proxy-authorization", "Basic x"),
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("accept-encoding", "gzip, br"),
            ("anthropic-beta", "a,b"),
            ("content-length", "3"),
        ]);
        for_upstream(&mut headers, &(API_KEY, HeaderValue::from_static("sk")));
        let expected = map(&[
            ("accept-encoding", "identity"),
            ("anthropic-beta", "a,b"),
            ("content-length", "3"),
            ("x-api-key", "sk"),
        ]);
        assert_eq!(headers, expected);
    }
}
