//! Browsers speak for whoever wrote the page they show, so a server on a loopback address is not
//! safe from the web.
//!
//! Two checks before anything else. A page whose name was rebound to 127.0.0.1 still sends its
//! own name as `Host`: names we do not go by are refused. A page of another origin sends its
//! `Origin` (or `Sec-Fetch-Site`) with whatever changes state and with every WebSocket: origins
//! other than our own are refused. There is no CORS: nothing is ever shared with another origin.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, Request, Uri, header, uri::Authority};
use rclaude_types::ErrorCode;

use super::{
    e2b,
    problem::{Refusal, Result},
};

/// By which names and from which pages a server may be called.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    local: bool,
    names: Vec<String>,
    origins: Vec<String>,
}

impl Hosts {
    /// For a server that listens at `address`: on a loopback address it goes by loopback names
    /// and `names` alone, elsewhere by any unless there are `names`. `origins` (such as
    /// `https://example.org`) may call it from their pages besides its own.
    pub fn new(address: SocketAddr, names: Vec<String>, origins: Vec<String>) -> Self {
        Self { local: address.ip().to_canonical().is_loopback(), names, origins }
    }

    fn goes_by(&self, host: &str) -> bool {
        if !self.local && self.names.is_empty() {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        // An address cannot be rebound; beyond loopback it is how a server is usually called.
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return !self.local || ip.to_canonical().is_loopback();
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        host.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    fn is_own(&self, origin: &str, authority: &Authority) -> bool {
        let same = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|rest| rest.eq_ignore_ascii_case(authority.as_str()));
        same || self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Refuses a request that a browser was tricked into, or that came under a wrong name.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<()> {
        let headers = request.headers();
        let authority = authority(request.uri(), headers)?;
        // A sandbox's host name ends in one of ours.
        if !self.goes_by(e2b::domain(authority.host())) {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "this server does not go by the name `{}`; call it by its address, or add the \
                     name to its settings",
                    authority.host()
                ),
            ));
        }
        let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if safe && !headers.contains_key(header::UPGRADE) {
            return Ok(());
        }
        let foreign = match headers.get(header::ORIGIN) {
            Some(origin) => !origin.to_str().is_ok_and(|origin| self.is_own(origin, &authority)),
            None => headers
                .get("sec-fetch-site")
                .is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")),
        };
        if foreign {
            return Err(Refusal::new(
                ErrorCode::Forbidden,
                "a page of another origin may not do this; add the origin to the server's settings \
                 if it is yours",
            ));
        }
        Ok(())
    }
}

/// The name the client called us by: HTTP/2 has it in the URI, HTTP/1.1 in `Host`.
fn authority(uri: &Uri, headers: &HeaderMap) -> Result<Authority> {
    if let Some(authority) = uri.authority() {
        return Ok(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes())
            .map_err(|_| Refusal::invalid("the header `host` is malformed")),
        (None, _) => Err(Refusal::invalid("the header `host` is missing")),
        (Some(_), Some(_)) => Err(Refusal::invalid("the header `host` is given twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/v1/sessions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn local() -> Hosts {
        Hosts::new(
            "127.0.0.1:7433".parse().unwrap(),
            vec!["claude.example".into()],
            vec!["https://panel.example".into()],
        )
    }

    #[test]
    fn a_local_server_goes_by_loopback_names_and_its_own() {
        for host in ["localhost:7433", "LOCALHOST", "127.0.0.1:7433", "[::1]:80", "claude.example"]
        {
            assert!(local().check(&request("GET", &[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example:7433", "10.0.0.1", "localhost.evil.example", "127.0.0.1.nip.io"]
        {
            assert!(local().check(&request("GET", &[("host", host)])).is_err(), "{host}");
        }
    }

    #[test]
    fn a_server_on_the_network_goes_by_any_name_unless_told_its_own() {
        let address = "0.0.0.0:7433".parse().unwrap();
        let any = Hosts::new(address, vec![], vec![]);
        assert!(any.check(&request("GET", &[("host", "build-box:7433")])).is_ok());
        let one = Hosts::new(address, vec!["build-box".into()], vec![]);
        assert!(one.check(&request("GET", &[("host", "build-box:7433")])).is_ok());
        assert!(one.check(&request("GET", &[("host", "10.0.0.7:7433")])).is_ok());
        assert!(one.check(&request("GET", &[("host", "evil.example")])).is_err());
    }

    #[test]
    fn a_request_under_no_name_or_two_is_refused() {
        assert!(local().check(&request("GET", &[])).is_err());
        let two = [("host", "localhost"), ("host", "localhost")];
        assert!(local().check(&request("GET", &two)).is_err());
    }

    #[test]
    fn other_origins_may_not_change_state_or_open_sockets() {
        let host = ("host", "localhost:7433");
        let verdict = |method: &str, headers: &[(&str, &str)]| {
            let headers = [&[host], headers].concat();
            local().check(&request(method, &headers)).is_ok()
        };
        assert!(verdict("POST", &[]), "no browser at all");
        assert!(verdict("POST", &[("origin", "http://localhost:7433")]));
        assert!(verdict("POST", &[("origin", "https://panel.example")]));
        assert!(verdict("POST", &[("sec-fetch-site", "same-origin")]));
        assert!(verdict("GET", &[("origin", "https://evil.example")]), "cannot read the answer");
        for headers in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "http://localhost:8080")],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(!verdict("POST", headers), "{headers:?}");
            assert!(!verdict("DELETE", headers), "{headers:?}");
            let upgrade = [headers, &[("upgrade", "websocket")]].concat();
            assert!(!verdict("GET", &upgrade), "{headers:?}");
        }
    }
}
