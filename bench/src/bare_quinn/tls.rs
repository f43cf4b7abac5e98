//! The identities of a broker and of its client, out of the broker's folder; TLS as both use it: 1.3, certificates on
//! both sides, no early data.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidemill_client::transport::ALPN;

/// As a broker's listener.
pub fn server(data: &Path) -> anyhow::Result<QuicServerConfig> {
    let folder = data.join("tls");
    let roots = Arc::new(authority(&folder.join("ca.pem"))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&folder.join("broker.pem"))?, key(&folder.join("broker-key.pem"))?)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_early_data_size = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

/// As our client.
pub fn client(data: &Path) -> anyhow::Result<QuicClientConfig> {
    let folder = data.join("client");
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authority(&folder.join("ca.pem"))?)
        .with_client_auth_cert(
            certificates(&folder.join("client.pem"))?,
            key(&folder.join("client-key.pem"))?,
        )?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_early_data = false;
    Ok(QuicClientConfig::try_from(config)?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn authority(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.with_context(|| path.display().to_string())
}

fn key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| path.display().to_string())
}
