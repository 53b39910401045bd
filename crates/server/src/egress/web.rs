//! HTTP from a sandbox: to the gateway, or a `403` that says why.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::Authority};
use hyper::{body::Incoming, ext::ReasonPhrase, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::Destination,
    names::GATEWAY_ADDRESS,
    report::Protocol,
    server::{HEAD_TIMEOUT, Session},
};

/// What refused answers say beside their words.
const REFUSED: &str = "x-rclaude-refused";

/// Serves one connection until its client has had enough of it.
pub(super) async fn serve(
    session: Arc<Session>,
    destination: Destination,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) {
    let service = service_fn(move |request| {
        let (session, destination) = (Arc::clone(&session), destination.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&session, &destination, request).await) }
    });
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "egress: connection ended");
    }
}

/// Where a request wants to go.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

async fn answer(
    session: &Arc<Session>,
    destination: &Destination,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let target = target(&request, destination);
    let connect = request.method() == Method::CONNECT;
    if !target.is_gateway() {
        let protocol = if connect { Protocol::Connect } else { Protocol::Http };
        return refuse(&session.refused(&target.host, target.port, protocol));
    }
    if connect {
        return tunnel(Arc::clone(session), destination.clone(), request);
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().remove("proxy-connection");
    request.headers_mut().remove(header::PROXY_AUTHORIZATION);
    (session.gateway)(request).await
}

/// A client that tunnels even what needs no tunnel: the same service, inside.
fn tunnel(session: Arc<Session>, to: Destination, request: Request<Incoming>) -> Response<Body> {
    let tracker = session.tracker.clone();
    let cancel = session.cancel.clone();
    tracker.spawn(cancel.run_until_cancelled_owned(async move {
        match hyper::upgrade::on(request).await {
            // Boxed, as serving and tunnelling contain each other.
            Ok(upgraded) => {
                let inner: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> =
                    Box::pin(serve(session, to, TokioIo::new(upgraded)));
                inner.await;
            }
            Err(error) => tracing::debug!(%error, "egress: tunnel not made"),
        }
    }));
    Response::new(Body::empty())
}

fn refuse(sentence: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{sentence}\n")));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(REFUSED, HeaderValue::from_static("network-policy"));
    // Some clients show nothing of a refused CONNECT but this.
    let reason = ReasonPhrase::from_static(b"Blocked by the session's network policy");
    response.extensions_mut().insert(reason);
    response
}

/// What a request names (its URI through a proxy, else its `Host`), else what was dialled.
fn target<B>(request: &Request<B>, destination: &Destination) -> Target {
    let host = || request.headers().get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let uri = request.uri();
    let Some(named) = uri.authority().cloned().or_else(host) else {
        return Target { host: destination.host(), port: destination.port() };
    };
    let port = match (named.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, Some(_)) => 80,
        // A `Host` without a port means the protocol's own; the gateway is on port 80, whatever
        // port a client was redirected from.
        (None, None) if is_gateway_name(named.host()) => 80,
        (None, None) => destination.port(),
    };
    let host = named.host().trim_start_matches('[').trim_end_matches(']');
    Target { host: host.to_owned(), port }
}

impl Target {
    fn is_gateway(&self) -> bool {
        self.port == 80 && is_gateway_name(&self.host)
    }
}

fn is_gateway_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("gateway.rclaude") || host.parse() == Ok(GATEWAY_ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, uri: &str, host: Option<&str>) -> (String, u16, bool) {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let to = Destination::new("198.51.100.7:8080".parse().unwrap(), None);
        let target = target(&request.body(()).unwrap(), &to);
        let gateway = target.is_gateway();
        (target.host, target.port, gateway)
    }

    #[test]
    fn the_gateway_is_known_by_name_and_by_address_and_nothing_else_is() {
        for (method, uri, host, gateway) in [
            ("GET", "/v1/messages", Some("gateway.rclaude"), true),
            ("GET", "/v1/messages", Some("Gateway.rclaude:80"), true),
            ("GET", "/v1/messages", Some("100.64.0.1"), true),
            ("GET", "http://gateway.rclaude/v1", None, true),
            ("CONNECT", "gateway.rclaude:80", None, true),
            ("CONNECT", "gateway.rclaude:443", None, false),
            ("GET", "/", Some("gateway.rclaude:8080"), false),
            ("GET", "/", Some("gateway.rclaude.example.org"), false),
            ("GET", "http://example.org/", Some("gateway.rclaude"), false),
            ("GET", "https://gateway.rclaude/", None, false),
        ] {
            assert_eq!(asked(method, uri, host).2, gateway, "{method} {uri} {host:?}");
        }
    }

    #[test]
    fn a_refused_place_is_called_what_the_client_calls_it() {
        let place = |host: &str, port| (host.to_owned(), port, false);
        assert_eq!(asked("CONNECT", "example.org:443", None), place("example.org", 443));
        assert_eq!(asked("GET", "http://example.org/x", None), place("example.org", 80));
        assert_eq!(asked("GET", "/x", Some("example.org")), place("example.org", 8080));
        assert_eq!(asked("GET", "/x", Some("[2001:db8::1]:81")), place("2001:db8::1", 81));
        assert_eq!(asked("GET", "/x", None), place("198.51.100.7", 8080));
    }
}
