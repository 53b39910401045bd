//! Which sandbox, and which of its ports, a request is for.
//!
//! A request of the data plane says so by its host (`<port>-<sandbox>.<domain>`) or, where all
//! sandboxes share one address, by headers. It is told apart before any of our own routes: theirs
//! (`/files`, `/metrics`) may have the same names.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use super::{ENVD_PORT, TOKEN, id, port, signed, token};
use crate::api::Api;

const SANDBOX_ID: &str = "e2b-sandbox-id";
const SANDBOX_PORT: &str = "e2b-sandbox-port";
/// Where the control plane is, and nothing of a sandbox's daemon's.
const CONTROL: [&str; 2] = ["/sandboxes", "/v2/sandboxes"];
/// Where a signature alone may say which sandbox is meant.
const FILES: &str = "/files";

/// What a request of the data plane is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As the request has it.
    pub(super) name: String,
    pub(super) port: u16,
}

/// What [`dispatch`] hands requests to.
#[derive(Debug, Clone)]
pub(in crate::api) struct Planes {
    pub(in crate::api) api: Api,
    /// What is answered in a sandbox's daemon's place.
    pub(in crate::api) daemon: Router,
}

/// Hands requests that name a sandbox over to its door; all others go on.
pub(in crate::api) async fn dispatch(
    State(Planes { api, daemon }): State<Planes>,
    mut request: Request,
    next: Next,
) -> Response {
    let session = match target(request.uri(), request.headers()) {
        Some(target) => match id::session(&target.name) {
            None => return not_found(&target.name),
            Some(session) if target.port != ENVD_PORT => {
                return port::answer(&api, &session, &target, request).await;
            }
            Some(session) => session,
        },
        None if request.uri().path() == FILES => {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            match signed::session(&api, method, uri).await {
                Some(session) => session,
                None => return next.run(request).await,
            }
        }
        None => return next.run(request).await,
    };
    request.extensions_mut().insert(session);
    match TowerToHyperService::new(daemon).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn target(uri: &Uri, headers: &HeaderMap) -> Option<Target> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = |name: &str, port| Some(Target { name: name.trim().to_owned(), port });
    if let Some(name) = header(SANDBOX_ID) {
        let port = header(SANDBOX_PORT).map_or(Some(ENVD_PORT), |text| text.trim().parse().ok())?;
        // Some SDKs tell the control plane as well which sandbox they speak of.
        let control = CONTROL.iter().any(|path| uri.path().starts_with(path));
        return if port == ENVD_PORT && control { None } else { named(name, port) };
    }
    let by_host = || {
        let host = uri.host().or_else(|| header(header::HOST.as_str()))?;
        let (port, rest) = split(host)?;
        named(rest.split('.').next().unwrap_or(rest), port)
    };
    // And some name it by its token alone.
    by_host().or_else(|| named(token::named(header(TOKEN)?)?, ENVD_PORT))
}

/// The port that a host begins with, and the rest, if the host names a sandbox of ours.
fn split(host: &str) -> Option<(u16, &str)> {
    let (port, rest) = host.split_once('-')?;
    let name = rest.split(['.', ':']).next()?;
    id::session(name)?;
    Some((port.parse().ok()?, rest))
}

/// A host without what names a port and a sandbox in it.
pub(in crate::api) fn domain(host: &str) -> &str {
    split(host).and_then(|(_, rest)| rest.split_once('.')).map_or(host, |(_, domain)| domain)
}

/// There is no such sandbox, or it is set aside: the SDKs know it by these words.
pub(super) fn not_found(name: &str) -> Response {
    let body = json!({
        "sandboxId": name, "message": "The sandbox was not found", "code": 502
    });
    (StatusCode::BAD_GATEWAY, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const NAME: &str = "s019a2b3c4d5e7f8091a2b3c4d5e6f708";

    fn found(uri: &str, pairs: &[(&'static str, &str)]) -> Option<(String, u16)> {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        target(&uri.parse().unwrap(), &headers).map(|it| (it.name, it.port))
    }

    #[test]
    fn a_sandbox_is_named_by_headers_or_by_the_host() {
        let wanted = |port| Some((NAME.to_owned(), port));
        let headers = [("e2b-sandbox-id", NAME), ("e2b-sandbox-port", "8080")];
        assert_eq!(found("/files", &headers), wanted(8080));
        assert_eq!(found("/files", &headers[..1]), wanted(49983));
        let host = format!("3000-{NAME}.sandboxes.example:8443");
        assert_eq!(found("/", &[("host", &host)]), wanted(3000));
        assert_eq!(found(&format!("http://49983-{NAME}.localhost/x"), &[]), wanted(49983));
    }

    #[test]
    fn a_token_names_its_sandbox_and_the_control_plane_is_not_behind_a_door() {
        let token = format!("rce_{NAME}_00");
        let wanted = Some((NAME.to_owned(), 49983));
        assert_eq!(found("/files", &[("x-access-token", &token)]), wanted);
        let headers = [("e2b-sandbox-id", NAME), ("e2b-sandbox-port", "49983")];
        assert_eq!(found(&format!("/sandboxes/{NAME}/connect"), &headers), None);
        let other = [("e2b-sandbox-id", NAME), ("e2b-sandbox-port", "80")];
        assert_eq!(found("/sandboxes", &other), Some((NAME.to_owned(), 80)));
    }

    #[test]
    fn other_requests_are_none_of_the_doors() {
        for host in ["localhost:7080", "3000-x.example", "build-box", "a-b.example", "[::1]:80"] {
            assert_eq!(found("/v1/sessions", &[("host", host)]), None, "{host}");
        }
        assert_eq!(found("/", &[("e2b-sandbox-id", NAME), ("e2b-sandbox-port", "x")]), None);
    }

    #[test]
    fn the_domain_is_what_a_host_is_without_the_sandbox() {
        assert_eq!(domain(&format!("3000-{NAME}.localhost")), "localhost");
        assert_eq!(domain(&format!("3000-{NAME}")), format!("3000-{NAME}"));
        assert_eq!(domain("3000-x.localhost"), "3000-x.localhost");
    }
}
