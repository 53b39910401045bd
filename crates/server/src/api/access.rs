//! Credentials: where a request carries them, and whose they are.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rclaude_types::ErrorCode;

use super::{Api, problem::Refusal};

/// What a WebSocket client offers as a subprotocol to carry its token, since browsers let it set
/// no other header: `rclaude.bearer.<token>`.
const BEARER_PROTOCOL: &str = "rclaude.bearer.";

/// Lets nobody by who cannot say who they are, and tells the handlers who it is.
pub(super) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(secret) = bearer(request.headers()) else {
        return Refusal::new(
            ErrorCode::Unauthenticated,
            "send `authorization: Bearer <token>` with the owner's token or an API key",
        )
        .into_response();
    };
    match api.auth.authenticate(secret).await {
        Ok(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        Err(problem) => Refusal::from(problem).into_response(),
    }
}

/// Never from the query string: that ends up in logs, histories and `Referer` headers.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim());
    }
    if !headers.contains_key(header::UPGRADE) {
        return None;
    }
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(BEARER_PROTOCOL))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(pairs: &[(header::HeaderName, &'static str)]) -> Option<String> {
        let headers: HeaderMap =
            pairs.iter().map(|(k, v)| (k.clone(), HeaderValue::from_static(v))).collect();
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn a_token_comes_in_the_authorization_header() {
        assert_eq!(found(&[(header::AUTHORIZATION, "Bearer abc")]).as_deref(), Some("abc"));
        assert_eq!(found(&[(header::AUTHORIZATION, "bearer  abc ")]).as_deref(), Some("abc"));
        assert_eq!(found(&[(header::AUTHORIZATION, "Basic abc")]), None);
        assert_eq!(found(&[(header::AUTHORIZATION, "abc")]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_websocket_may_carry_it_as_a_subprotocol_and_nothing_else_may() {
        let protocol = (header::SEC_WEBSOCKET_PROTOCOL, "rclaude.v1, rclaude.bearer.abc");
        let upgrade = (header::UPGRADE, "websocket");
        assert_eq!(found(&[upgrade, protocol.clone()]).as_deref(), Some("abc"));
        assert_eq!(found(&[protocol]), None);
    }
}
