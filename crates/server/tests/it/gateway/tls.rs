//! A model API behind TLS, with a certificate of an authority of its own.

use std::{path::Path, sync::Arc};

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rclaude_server::gateway::{Credential, GatewayConfig};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::{KEY, SECRET, World};

/// An API that says nothing but hello, and its URL.
async fn api() -> String {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/tls");
    let certificate = CertificateDer::from_pem_file(files.join("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(files.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    TaskTracker::new().spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // A client that does not trust the certificate breaks off.
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            let service = service_fn(|_request| async {
                Ok::<_, std::convert::Infallible>(hyper::Response::new("hello".to_owned()))
            });
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(TokioIo::new(stream), service).await.ok();
        }
    });
    url
}

fn config(url: &str) -> GatewayConfig {
    let key = Some(Credential::ApiKey(KEY.to_owned()));
    GatewayConfig::new(url.parse().unwrap(), key, SECRET.into())
}

#[tokio::test]
async fn an_authority_in_the_bundle_is_trusted() {
    let mut config = config(&api().await);
    config.ca_bundle =
        Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/gateway/tls/ca.crt"));
    let world = World::with(config).await;
    let response = world.post("/v1/messages").body("{}").send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn any_other_authority_is_not_and_the_agent_is_told() {
    let world = World::with(config(&api().await)).await;
    let response = world.post("/v1/messages").body("{}").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 502);
    let text = response.text().await.unwrap();
    assert!(text.contains("UnknownIssuer"), "{text}");
}
