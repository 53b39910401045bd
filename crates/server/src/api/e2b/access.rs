//! Who may use the control plane: whoever has the owner's token or an API key.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::words;
use crate::api::Api;

const API_KEY: &str = "x-api-key";
/// Older SDKs take nothing for a key but this and hexadecimal digits.
const HEX_PREFIX: &str = "e2b_";

/// Lets nobody by who cannot say who they are.
pub(super) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(secret) = presented(request.headers()) else {
        let text = "send `x-api-key` with the owner's token or an API key of this server";
        return words::error(StatusCode::UNAUTHORIZED, text);
    };
    match api.auth.authenticate(&secret).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) => words::said(&problem),
    }
}

fn presented(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(API_KEY).and_then(|value| value.to_str().ok());
    let bearer = || {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    };
    let key = key.or_else(bearer)?;
    Some(key.strip_prefix(HEX_PREFIX).and_then(unhex).unwrap_or_else(|| key.to_owned()))
}

/// The text that hexadecimal digits stand for.
fn unhex(digits: &str) -> Option<String> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    String::from_utf8(bytes.filter(|_| rest.is_empty())?).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn found(name: &'static str, value: &str) -> Option<String> {
        let name = HeaderName::from_static(name);
        presented(&HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]))
    }

    #[test]
    fn a_key_comes_in_its_header_or_as_a_bearer_token() {
        assert_eq!(found("x-api-key", "rck_abc").as_deref(), Some("rck_abc"));
        assert_eq!(found("authorization", "Bearer rct_abc").as_deref(), Some("rct_abc"));
        assert_eq!(found("authorization", "Basic abc"), None);
    }

    #[test]
    fn a_key_may_be_written_as_old_sdks_want_it() {
        // "rck_a" in hexadecimal.
        assert_eq!(found("x-api-key", "e2b_72636b5f61").as_deref(), Some("rck_a"));
        assert_eq!(found("x-api-key", "e2b_7").as_deref(), Some("e2b_7"), "no pairs");
        assert_eq!(found("x-api-key", "e2b_zz").as_deref(), Some("e2b_zz"), "no digits");
    }
}
