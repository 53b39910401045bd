//! The names of previews.

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header, uri::Authority},
};
use rclaude_types::SessionId;
use url::Url;

/// Which port of which session a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The session, which may not exist.
    pub session: SessionId,
    /// The port, never 0.
    pub port: u16,
    /// The name and port by which the client called it.
    pub authority: String,
    /// `http` or `https`, as the client sees it.
    pub scheme: String,
}

/// Of what the names of previews are subdomains.
#[derive(Debug)]
pub(super) struct Domain {
    scheme: String,
    host: String,
    /// With its colon; empty where it is the scheme's own.
    port: String,
}

impl Domain {
    /// From a URL such as `https://previews.example.org`.
    pub(super) fn new(base: &Url) -> Self {
        Self {
            scheme: base.scheme().to_owned(),
            host: base.host_str().unwrap_or_default().to_ascii_lowercase(),
            port: base.port().map(|port| format!(":{port}")).unwrap_or_default(),
        }
    }

    /// Where a port of a session is seen. By its id and never by its name: a browser remembers much
    /// under a name, which a later session must not come by.
    pub(super) fn url(&self, session: &SessionId, port: u16) -> Url {
        let digits = digits(session);
        let Self { scheme, host, port: outer } = self;
        let text = format!("{scheme}://{port}-{digits}.{host}{outer}/");
        text.parse().expect("digits before a domain make a URL")
    }

    /// A port of a session, called by another name than its preview's.
    pub(super) fn named(&self, session: &SessionId, port: u16, authority: String) -> Target {
        Target { session: session.clone(), port, authority, scheme: self.scheme.clone() }
    }

    /// What a request is for; `None` if its name is no preview's.
    pub(super) fn target(&self, request: &Request) -> Option<Target> {
        let authority = authority(request.uri(), request.headers())?;
        let host = authority.host();
        // It comes back in redirects, so it is a name with perhaps a port and nothing else.
        let outer = authority.as_str().strip_prefix(host)?;
        if !outer.is_empty() && authority.port_u16().is_none() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let (port, digits) = host.strip_suffix(&self.host)?.strip_suffix('.')?.split_once('-')?;
        let decimal = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse().ok().filter(|_| decimal)?;
        let session = format!("{}_{digits}", SessionId::PREFIX).parse().ok()?;
        let authority = authority.as_str().to_owned();
        Some(Target { session, port, authority, scheme: self.scheme.clone() })
    }
}

/// An id without its prefix, which has a character that host names lack.
fn digits(session: &SessionId) -> &str {
    session.as_str().split_once('_').map_or("", |(_, digits)| digits)
}

/// The one name the client called us by: HTTP/2 has it in the URI, HTTP/1.1 in `Host`.
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
        _ => None,
    }
}

impl Target {
    /// The origin of this preview's pages.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Whether an origin is a preview of the same session, on whatever port.
    pub(super) fn is_sibling(&self, origin: &str) -> bool {
        let rest = |text: &str| {
            let (scheme, name) = text.split_once("://")?;
            let (port, rest) = name.split_once('-')?;
            port.parse::<u16>().ok()?;
            Some((scheme.to_owned(), rest.to_ascii_lowercase()))
        };
        rest(origin).is_some_and(|other| rest(&self.origin()) == Some(other))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const DIGITS: &str = "01a1ff05135471a2956bf2c9011eef24";

    fn target(domain: &str, host: &str) -> Option<Target> {
        let request = Request::builder().header(header::HOST, host).body(Body::empty()).unwrap();
        Domain::new(&domain.parse().unwrap()).target(&request)
    }

    #[test]
    fn a_name_is_a_port_a_session_and_the_domain() {
        let domain = Domain::new(&"http://localhost:7080".parse().unwrap());
        let session: SessionId = format!("ses_{DIGITS}").parse().unwrap();
        let url = domain.url(&session, 3000);
        assert_eq!(url.as_str(), format!("http://3000-{DIGITS}.localhost:7080/"));
        let found = target("http://localhost:7080", url.authority()).unwrap();
        assert_eq!((found.session, found.port), (session.clone(), 3000));
        let shouted = target("http://localhost", &url.authority().to_uppercase()).unwrap();
        assert_eq!(shouted.session, session);
        assert!(target("http://localhost", &format!("3000-{DIGITS}.localhost.")).is_some());
        let tls = Domain::new(&"https://previews.example.org".parse().unwrap());
        let shown = tls.url(&session, 80).to_string();
        assert_eq!(shown, format!("https://80-{DIGITS}.previews.example.org/"));
    }

    #[test]
    fn other_names_are_no_previews() {
        for host in [
            "localhost".to_owned(),
            format!("{DIGITS}.localhost"),
            format!("0-{DIGITS}.localhost"),
            format!("03000-{DIGITS}.localhost"),
            format!("+80-{DIGITS}.localhost"),
            format!("65536-{DIGITS}.localhost"),
            format!("-{DIGITS}.localhost"),
            format!("3000-{DIGITS}.evil.localhost"),
            format!("3000-{DIGITS}.localhost.evil.example"),
            format!("3000-{DIGITS}.notlocalhost"),
            format!("3000-{DIGITS}localhost"),
            format!("3000-{}.localhost", &DIGITS[1..]),
            "3000-shop.localhost".to_owned(),
            format!("3000-{DIGITS}.localhost/.localhost"),
            format!("x@3000-{DIGITS}.localhost:y"),
        ] {
            assert_eq!(target("http://localhost:7080", &host), None, "{host}");
        }
        let twice = Request::builder()
            .header(header::HOST, format!("3000-{DIGITS}.localhost"))
            .header(header::HOST, "localhost")
            .body(Body::empty())
            .unwrap();
        assert_eq!(Domain::new(&"http://localhost".parse().unwrap()).target(&twice), None);
    }

    #[test]
    fn ports_of_one_session_know_each_other_and_no_others() {
        let mine =
            target("http://localhost:7080", &format!("3000-{DIGITS}.localhost:7080")).unwrap();
        assert!(mine.is_sibling(&format!("http://8000-{DIGITS}.localhost:7080")));
        for other in [
            format!("https://8000-{DIGITS}.localhost:7080"),
            format!("http://8000-{DIGITS}.localhost:7081"),
            format!("http://8000-{}0.localhost:7080", &DIGITS[1..]),
            "http://localhost:7080".to_owned(),
            "null".to_owned(),
        ] {
            assert!(!mine.is_sibling(&other), "{other}");
        }
    }
}
