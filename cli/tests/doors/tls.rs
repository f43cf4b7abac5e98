//! Talking TLS to a broker by hand: with the identity that its own command has, or with any other.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

/// A chain of certificates, the own one first, and its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// The identity that `serve` made for the user's commands.
pub fn own(data: &Path) -> Identity {
    let client = data.join("client");
    Identity {
        chain: vec![CertificateDer::from_pem_file(client.join("client.pem")).unwrap()],
        key: PrivateKeyDer::from_pem_file(client.join("client-key.pem")).unwrap(),
    }
}

/// The broker's own authority, whose key lies in its folder.
pub fn authority(data: &Path) -> Issuer<'static, KeyPair> {
    let read = |name: &str| fs::read_to_string(data.join("tls").join(name)).unwrap();
    let key = KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap()
}

/// An authority that nobody knows.
pub fn stranger() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Issuer::new(params, KeyPair::generate().unwrap())
}

/// An identity that an authority gives out.
pub fn signed(by: &Issuer<'static, KeyPair>, params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, by).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

/// What a client of this identity connects with.
pub fn config(data: &Path, identity: Option<Identity>, protocols: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data.join("client/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown::of(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// A connection over TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects; nothing was said yet.
pub fn connect(address: &str, config: Arc<ClientConfig>) -> Stream {
    let connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let name = ServerName::try_from("tidemill").unwrap();
    StreamOwned::new(ClientConnection::new(config, name).unwrap(), connection)
}

/// Sends bytes, and reads all that comes back until the other side closes.
pub fn exchange(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // The answer may come before all is sent.
    let sent = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut back = Vec::new();
    match stream.read_to_end(&mut back) {
        Err(error) if back.is_empty() => Err(sent.err().unwrap_or(error)),
        _ => Ok(back),
    }
}

/// Shows an identity whoever asks for one, also one whose key is another's: rustls itself would not.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn of(Identity { chain, key }: Identity) -> Shown {
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Shown(Arc::new(CertifiedKey::new(chain, key)))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
