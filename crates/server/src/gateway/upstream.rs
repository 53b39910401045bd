//! The model API: where it is, how to get in, and the pooled client that talks to it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use super::{body::Upload, error::GatewayError, headers::API_KEY};

/// How long a name lookup with a connection, its TLS handshake aside, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept; shorter than servers usually keep them, so that few
/// requests meet one that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The model API, such as `https://api.anthropic.com`; a path is put before every request's.
    pub upstream: Url,
    /// What it wants to see; without it every request is refused with an explanation.
    pub credential: Option<Credential>,
    /// The server's secret, for session tokens.
    pub secret: Vec<u8>,
    /// Certificates to trust besides the system's, as a PEM file.
    pub ca_bundle: Option<PathBuf>,
    /// How long the API may take to begin its answer. Agents wait ten minutes.
    pub first_byte_timeout: Duration,
    /// The largest request body that is forwarded, in bytes.
    pub request_limit: usize,
}

impl GatewayConfig {
    /// With the usual limits: ten minutes to the first byte, requests up to 64 MiB.
    pub fn new(upstream: Url, credential: Option<Credential>, secret: Vec<u8>) -> Self {
        Self {
            upstream,
            credential,
            secret,
            ca_bundle: None,
            first_byte_timeout: Duration::from_mins(10),
            request_limit: 64 << 20,
        }
    }
}

/// How the server shows the model API who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// An API key, sent as `x-api-key`.
    ApiKey(String),
    /// A token, sent as `Authorization: Bearer`.
    Bearer(String),
}

impl Credential {
    pub(super) fn header(&self) -> Result<(HeaderName, HeaderValue), GatewayError> {
        let (name, value) = match self {
            Self::ApiKey(key) => (API_KEY, HeaderValue::try_from(key)),
            Self::Bearer(token) => {
                (header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")))
            }
        };
        let mut value = value.map_err(|_invalid| GatewayError::Credential)?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKey(_) => "ApiKey(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// The model API, ready to be asked.
pub(super) struct Upstream {
    pub(super) client: Client<HttpsConnector<HttpConnector>, Upload>,
    pub(super) host: String,
    base: Uri,
}

impl Upstream {
    pub(super) fn new(config: &GatewayConfig) -> Result<Self, GatewayError> {
        let url = &config.upstream;
        let base: Uri = url.as_str().trim_end_matches('/').parse().unwrap_or_default();
        let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
        let (Some(host), Some(_)) = (host, base.authority()) else {
            return Err(GatewayError::Upstream(url.clone()));
        };
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_keepalive(Some(Duration::from_mins(1)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(config)?)
            .https_or_http()
            // One connection to a stream: none waits for another's lost packet.
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(https);
        Ok(Self { client, host: host.to_owned(), base })
    }

    /// The address for a request to `target`.
    pub(super) fn uri(&self, target: &PathAndQuery) -> Option<Uri> {
        let prefix = self.base.path().trim_end_matches('/');
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(if prefix.is_empty() {
            target.clone()
        } else {
            format!("{prefix}{target}").parse().ok()?
        });
        Uri::from_parts(parts).ok()
    }
}

/// TLS with the system's certificates, or Mozilla's where the system has none, and the bundle's.
fn tls(config: &GatewayConfig) -> Result<ClientConfig, GatewayError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = &config.ca_bundle {
        let failed = |source| GatewayError::CaBundle { path: path.clone(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
            roots.add(certificate.map_err(failed)?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
