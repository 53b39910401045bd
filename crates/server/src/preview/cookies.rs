//! Cookies on their way through (RFC 6265): ours stays here, and a program's stay its own.

use axum::http::{HeaderMap, HeaderValue, header};

use super::link::NAME;

/// Values of our cookie, of which a browser may send several.
pub(super) fn ours(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    pairs(headers)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == NAME)
        .map(|(_, value)| value)
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim)
}

/// Takes our cookie out of a request: the program in the session is not to have it.
pub(super) fn withhold_ours(headers: &mut HeaderMap) {
    if ours(headers).next().is_none() {
        return;
    }
    let is_ours = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| name == NAME);
    let rest: Vec<_> = pairs(headers).filter(|pair| !is_ours(pair)).collect();
    let rest = HeaderValue::try_from(rest.join("; "));
    headers.remove(header::COOKIE);
    if let Some(rest) = rest.ok().filter(|rest| !rest.is_empty()) {
        headers.insert(header::COOKIE, rest);
    }
}

/// Keeps what a program sets to its own name: no cookie for the whole domain, where other sessions
/// are, and none that takes the place of ours.
pub(super) fn confine(headers: &mut HeaderMap) {
    if !headers.contains_key(header::SET_COOKIE) {
        return;
    }
    let set: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for cookie in set {
        let Ok(text) = cookie.to_str() else { continue };
        if text.split(['=', ';']).next().is_some_and(|name| name.trim() == NAME) {
            continue;
        }
        let is_domain = |part: &&str| {
            part.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("domain"))
        };
        // The first part is the cookie itself, whatever it is called.
        let mut parts = text.split(';');
        let first = parts.next().unwrap_or_default();
        let kept: Vec<_> = parts.filter(|part| !is_domain(part)).collect();
        let kept = std::iter::once(first).chain(kept).collect::<Vec<_>>().join(";");
        if let Ok(kept) = HeaderValue::try_from(kept) {
            headers.append(header::SET_COOKIE, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn our_cookie_is_read_and_the_rest_goes_on() {
        let mut headers =
            with(header::COOKIE, &["a=1; rclaude-access=x.y;b=2", "rclaude-access=z; c=3=4; lone"]);
        assert_eq!(ours(&headers).collect::<Vec<_>>(), ["x.y", "z"]);
        withhold_ours(&mut headers);
        assert_eq!(headers[header::COOKIE], "a=1; b=2; c=3=4; lone");
        let mut only = with(header::COOKIE, &["rclaude-access=z"]);
        withhold_ours(&mut only);
        assert!(only.is_empty());
    }

    #[test]
    fn a_program_sets_cookies_for_its_own_name_alone() {
        let mut headers = with(
            header::SET_COOKIE,
            &[
                "a=1; Path=/; Domain=localhost; HttpOnly",
                "rclaude-access=mine",
                "domain=x; domain = y",
            ],
        );
        confine(&mut headers);
        let kept: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(kept, ["a=1; Path=/; HttpOnly", "domain=x"]);
    }
}
