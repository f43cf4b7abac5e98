//! Who we are, and whom we trust: certificates, and what QUIC needs of them.
//!
//! TLS 1.3 only, and no early data: a repeated handshake must not repeat a produce request.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;
use crate::limits::PEM_BYTES_MAX;
use crate::runtime;
use crate::transport::ALPN;

/// The cluster's authority and this client's identity.
#[derive(Clone)]
pub struct Tls {
    authority: Vec<CertificateDer<'static>>,
    certificate: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    pub(crate) server_name: String,
}

impl Tls {
    /// The name that every broker's certificate bears beside its addresses, so that a client may reach a broker
    /// by any address.
    pub const SERVER_NAME: &str = "tidemill";

    /// From PEM: the authority's certificate, the client's certificate (a chain, its own first), and its key.
    ///
    /// # Errors
    /// When one of them is missing or is not what it should be.
    pub fn from_pem(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Tls, Error> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| wrong("the client's key", &error))?;
        Ok(Tls {
            authority: certificates("the authority", authority)?,
            certificate: certificates("the client's certificate", certificate)?,
            key: Arc::new(key),
            server_name: Tls::SERVER_NAME.to_owned(),
        })
    }

    /// As [`Tls::from_pem`], from files.
    ///
    /// # Errors
    /// As [`Tls::from_pem`], and when a file cannot be read.
    pub fn from_files(
        authority: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Tls, Error> {
        let read = |path: &Path| {
            runtime::read_file(path)
                .map_err(|error| Error::impossible(format!("cannot read {}: {error}", path.display())))
        };
        Tls::from_pem(&read(authority.as_ref())?, &read(certificate.as_ref())?, &read(key.as_ref())?)
    }

    /// Expects brokers to prove another name than [`Tls::SERVER_NAME`].
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = name.into();
        self
    }

    /// What a QUIC connection of this client is made with.
    pub(crate) fn quic(&self) -> Result<QuicClientConfig, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.authority {
            roots.add(certificate.clone()).map_err(|error| wrong("the authority", &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong("TLS 1.3", &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(self.certificate.clone(), self.key.clone_key())
            .map_err(|error| wrong("the client's certificate", &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        QuicClientConfig::try_from(config).map_err(|error| wrong("TLS for QUIC", &error))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    if pem.len() > PEM_BYTES_MAX {
        return Err(Error::impossible(format!("{what}: more than {PEM_BYTES_MAX} bytes")));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if found.is_empty() => Err(Error::impossible(format!("{what}: no certificate in it"))),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(what, &error)),
    }
}

fn wrong(what: &str, why: &dyn fmt::Display) -> Error {
    Error::impossible(format!("{what}: {why}"))
}
