//! Who may see a preview: everybody if its port is public; else whoever brings a link, the cookie
//! that a link was turned into, or credentials of the API.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, request::Parts},
    response::Response,
};
use rclaude_types::{Problem, Timestamp};

use super::{Previews, address::Target, cookies, link};
use crate::auth::Auth;

/// A token or key of the API, for programs. Not `authorization`, which is the previewed program's.
const TOKEN: HeaderName = HeaderName::from_static("x-rclaude-token");

/// What becomes of a request.
pub(super) enum Verdict {
    /// It goes on.
    Admitted,
    /// It brought a link, which becomes a cookie and disappears from the address.
    Redirect(Box<Response>),
    /// It brought nothing that lets it in.
    Private,
    /// A page of another origin had the browser send it.
    Foreign,
}

impl Previews {
    /// Whoever brings nothing learns nothing, not even whether there is such a session.
    pub(super) async fn judge(
        &self,
        auth: &Auth,
        target: &Target,
        now: Timestamp,
        request: &Parts,
    ) -> Result<Verdict, Problem> {
        let headers = &request.headers;
        let Target { session, port, .. } = target;
        if let Some(token) = headers.get(TOKEN) {
            let token = token.to_str().unwrap_or_default();
            let known = auth.authenticate(token).await;
            return Ok(if known.is_ok() { Verdict::Admitted } else { Verdict::Private });
        }
        let good = |word: &str| self.links.verify(session, *port, word, now);
        if let (Some(word), rest) = take_word(&request.uri)
            && let Some(expires) = good(&word)
        {
            let seconds = expires - now.as_micros() / 1_000_000;
            return Ok(match request.method {
                Method::GET | Method::HEAD if !headers.contains_key(header::UPGRADE) => {
                    Verdict::Redirect(Box::new(remembered(target, &word, seconds, &rest)))
                }
                _ => Verdict::Admitted,
            });
        }
        if cookies::ours(headers).any(|word| good(word).is_some()) {
            // A browser sends the cookie with whatever any page makes it send.
            return Ok(if is_foreign(target, request) {
                Verdict::Foreign
            } else {
                Verdict::Admitted
            });
        }
        let public = self.sessions.is_public_port(session, *port).await?;
        Ok(if public { Verdict::Admitted } else { Verdict::Private })
    }
}

/// Whether a page that is none of the session's had the browser send something that may change or
/// carry off state.
fn is_foreign(target: &Target, request: &Parts) -> bool {
    let headers = &request.headers;
    let safe = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if safe && !headers.contains_key(header::UPGRADE) {
        return false;
    }
    match headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default()) {
        Some(origin) => !target.is_sibling(origin),
        None => headers
            .get("sec-fetch-site")
            .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")),
    }
}

/// The word a query carries, and the path and query without it.
fn take_word(uri: &Uri) -> (Option<String>, String) {
    let path = uri.path();
    let is_ours = |pair: &&str| pair.split('=').next() == Some(link::NAME);
    let pairs: Vec<&str> = uri.query().unwrap_or_default().split('&').collect();
    let word = pairs.iter().find(|pair| is_ours(pair));
    let word = word.and_then(|pair| pair.split_once('=')).map(|(_, word)| word.to_owned());
    let rest: Vec<&str> = pairs.into_iter().filter(|pair| !is_ours(pair)).collect();
    let rest = rest.join("&");
    let question = if rest.is_empty() { "" } else { "?" };
    (word, format!("{path}{question}{rest}"))
}

/// Removes what let a request in: the program in the session is not to have it.
pub(super) fn withhold(headers: &mut HeaderMap, uri: &mut Uri) {
    headers.remove(TOKEN);
    cookies::withhold_ours(headers);
    if uri.query().is_some_and(|query| query.contains(link::NAME)) {
        let (_, rest) = take_word(uri);
        if let Ok(rest) = rest.parse() {
            *uri = rest;
        }
    }
}

/// Lax, so that a link in a mail leads there; for this very name alone, as it has no domain.
fn remembered(target: &Target, word: &str, seconds: i64, rest: &str) -> Response {
    let secure = if target.scheme == "https" { "; Secure" } else { "" };
    let name = link::NAME;
    let cookie =
        format!("{name}={word}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    // A path that begins with two slashes would name another host.
    let rest = format!("/{}", rest.trim_start_matches(['/', '\\']));
    Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, rest)
        .header(header::SET_COOKIE, cookie)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer")
        .body(Body::empty())
        .expect("a path from a request and a word that was signed make headers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_taken_out_of_a_query() {
        let taken = |uri: &str| {
            let (word, rest) = take_word(&uri.parse().unwrap());
            (word, rest)
        };
        let some = |word: &str, rest: &str| (Some(word.to_owned()), rest.to_owned());
        assert_eq!(taken("/?rclaude-access=w"), some("w", "/"));
        assert_eq!(taken("/a%20b?x=1&rclaude-access=w&y=%26"), some("w", "/a%20b?x=1&y=%26"));
        assert_eq!(taken("/a?rclaude-accessory=1"), (None, "/a?rclaude-accessory=1".to_owned()));
        assert_eq!(taken("/a"), (None, "/a".to_owned()));
    }
}
