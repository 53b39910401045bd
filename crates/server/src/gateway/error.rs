//! Why a gateway cannot be set up.

use std::path::PathBuf;

/// Why a gateway cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The upstream's address is not one a request can go to.
    #[error("the model API's address {0} is not an http or https URL with a host")]
    Upstream(url::Url),
    /// The key has characters that no HTTP header can carry.
    #[error("the model API's key has characters that cannot be sent (a line end, perhaps)")]
    Credential,
    /// The file of extra certificates is missing or not PEM.
    #[error("the certificates in {path} cannot be read")]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}
