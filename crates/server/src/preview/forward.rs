//! Passing a request on to the program in the session, and its answer back (RFC 9110, section
//! 7.6). The program takes it for one from its own machine: it is called `localhost`, and what it
//! says of that name is translated back.

use std::error::Error;

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header,
        uri::{PathAndQuery, Scheme},
    },
    response::Response,
};
use hyper_util::rt::TokioIo;
use rclaude_types::Problem;

use super::{
    Previews, access,
    address::Target,
    cookies,
    dial::{self, Undialled},
};

/// What concerns one connection and is not passed on.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Why there is no answer of the program's.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be reached.
    Refused(Problem),
    /// It was reached, and did not answer in HTTP.
    Broken(String),
}

impl Previews {
    /// Passes a request on.
    pub(super) async fn forward(
        &self,
        target: &Target,
        mut request: Request,
    ) -> Result<Response, Failure> {
        let upgrade = upgrade_of(request.headers());
        let client_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let grpc = is_grpc(&request);
        let (mut parts, body) = request.into_parts();
        access::withhold(&mut parts.headers, &mut parts.uri);
        parts.uri = address(target, &parts.uri);
        parts.version = if grpc { Version::HTTP_2 } else { Version::HTTP_11 };
        strip(&mut parts.headers);
        if let Some(protocol) = upgrade {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol);
        }
        translate(target, &mut parts.headers);
        let client = if grpc { &self.http2 } else { &self.http1 };
        let answer = client.request(Request::from_parts(parts, body)).await;
        let mut answer = answer.map_err(|error| failure(&error))?;

        let program_side = (answer.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| {
            (answer.headers().get(header::UPGRADE).cloned(), hyper::upgrade::on(&mut answer))
        });
        let headers = answer.headers_mut();
        strip(headers);
        cookies::confine(headers);
        translate_back(target, headers);
        if let Some((protocol, program_side)) = program_side {
            // Nobody asked for it.
            let Some(client_side) = client_side else {
                return Err(Failure::Broken("it changes the protocol unasked".to_owned()));
            };
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
            let stopping = self.stopping.clone();
            self.tasks.spawn(stopping.run_until_cancelled_owned(async move {
                let (Ok(client), Ok(program)) = tokio::join!(client_side, program_side) else {
                    return;
                };
                let (mut client, mut program) = (TokioIo::new(client), TokioIo::new(program));
                // Whichever side breaks, the other learns by its connection's end.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut program).await;
            }));
        }
        Ok(answer.map(Body::new))
    }
}

/// The protocol a request wants to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let wanted =
        wanted.flat_map(|line| line.split(',')).any(|it| it.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| wanted).cloned()
}

fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    request.version() == Version::HTTP_2
        && kind
            .is_some_and(|kind| kind.starts_with("application/grpc") && !kind.contains("grpc-web"))
}

/// The request's path at the host by which the port is dialled.
fn address(target: &Target, uri: &Uri) -> Uri {
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(dial::host(target))
        .path_and_query(path)
        .build()
        .expect("an id and a number make a host")
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    // The one use of it that is not for the next hop alone, and gRPC's.
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// What the program is told of where it is.
fn translate(target: &Target, headers: &mut HeaderMap) {
    let local = format!("localhost:{}", target.port);
    if let Ok(outer) = HeaderValue::try_from(&target.authority) {
        headers.insert(FORWARDED_HOST, outer);
    }
    if let Ok(scheme) = HeaderValue::try_from(&target.scheme) {
        headers.insert(FORWARDED_PROTO, scheme);
    }
    // Development servers refuse names and origins they do not know.
    let own = |origin: &HeaderValue| {
        origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&target.origin()))
    };
    if headers.get(header::ORIGIN).is_some_and(own)
        && let Ok(origin) = HeaderValue::try_from(format!("http://{local}"))
    {
        headers.insert(header::ORIGIN, origin);
    }
    if let Ok(local) = HeaderValue::try_from(local) {
        headers.insert(header::HOST, local);
    }
}

/// A redirect to the program's own address leads here.
fn translate_back(target: &Target, headers: &mut HeaderMap) {
    let Some(location) = headers.get(header::LOCATION).and_then(|it| it.to_str().ok()) else {
        return;
    };
    let own = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]"].iter().find_map(|host| {
        let rest = location.strip_prefix(&format!("http://{host}:{}", target.port))?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
    });
    if let Some(rest) = own
        && let Ok(location) = HeaderValue::try_from(format!("{}{rest}", target.origin()))
    {
        headers.insert(header::LOCATION, location);
    }
}

fn failure(error: &(dyn Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(Undialled(problem)) = error.downcast_ref() {
            return Failure::Refused(problem.clone());
        }
        cause = error.source();
    }
    Failure::Broken(crate::chain::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            session: rclaude_types::SessionId::generate(),
            port: 3000,
            authority: "3000-x.localhost:7080".to_owned(),
            scheme: "http".to_owned(),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut all = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("accept", "*/*"),
        ]);
        strip(&mut all);
        assert_eq!(all, headers(&[("accept", "*/*")]));
        let mut grpc = headers(&[("te", "trailers")]);
        strip(&mut grpc);
        assert_eq!(grpc, headers(&[("te", "trailers")]));
    }

    #[test]
    fn the_program_takes_its_callers_for_local_ones() {
        let mut all = headers(&[
            ("host", "3000-x.localhost:7080"),
            ("origin", "http://3000-x.localhost:7080"),
        ]);
        translate(&target(), &mut all);
        assert_eq!(all["host"], "localhost:3000");
        assert_eq!(all["origin"], "http://localhost:3000");
        assert_eq!(all["x-forwarded-host"], "3000-x.localhost:7080");
        assert_eq!(all["x-forwarded-proto"], "http");
        let mut foreign = headers(&[("origin", "https://evil.example")]);
        translate(&target(), &mut foreign);
        assert_eq!(foreign["origin"], "https://evil.example");
    }

    #[test]
    fn redirects_to_its_own_address_lead_to_the_preview() {
        for (said, shown) in [
            ("http://localhost:3000/login?x=1", "http://3000-x.localhost:7080/login?x=1"),
            ("http://127.0.0.1:3000", "http://3000-x.localhost:7080"),
            ("http://localhost:30001/", "http://localhost:30001/"),
            ("/login", "/login"),
            ("https://example.org/", "https://example.org/"),
        ] {
            let mut all = headers(&[("location", said)]);
            translate_back(&target(), &mut all);
            assert_eq!(all["location"], shown, "{said}");
        }
    }
}
