//! Who is who: the cluster's certificate authority, the broker's certificate, and those of clients.
//!
//! ```text
//! tls/ca.pem  tls/ca-key.pem           made by the first broker; whoever holds the key makes identities
//! tls/broker.pem  tls/broker-key.pem   the broker's own, made anew at every start and before it ends
//! ```
//!
//! The settings `tls.certificate` and `tls.key` name another pair in the place of the broker's own. Either is taken anew
//! while the broker runs (`renewal.rs`), and shown to whoever connects from then on (`shown.rs`).
//!
//! TLS 1.3 only, no early data. A client shows a certificate of this authority or is not heard.

mod expiry;
mod renewal;
mod shown;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidemill_core::seams::{Timestamp, World};
use tidemill_storage::folder;

use crate::config::PairFiles;
use crate::files;

pub use expiry::{WARN_BEFORE, expiry};
pub use renewal::{End, Looked};
use shown::{Pair, Shown};

/// ALPN of Kafka's protocol over QUIC.
pub const ALPN_CLIENT: &[u8] = b"tidemill/1";
/// ALPN of the admin API.
pub const ALPN_ADMIN: &[u8] = b"http/1.1";
/// The name that every broker's certificate bears beside its addresses.
pub const SERVER_NAME: &str = "tidemill";

const PEM_BYTES_MAX: usize = 64 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_DAYS: u32 = 3_650;
const LEAF_DAYS: u32 = 365;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A certificate or key cannot be made or read.
    #[error("{what}: {why}")]
    Certificate {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The cluster's authority.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What listeners need.
pub struct Tls {
    /// The authority.
    pub authority: Authority,
    shown: Arc<Shown>,
    /// Where the broker's pair lies.
    files: PairFiles,
    /// The last pair that this broker made for itself.
    own: Mutex<Option<Identity>>,
    /// Why what lies in the files is not shown.
    trouble: Mutex<Option<String>>,
    addresses: Vec<SocketAddr>,
    names: Vec<String>,
}

impl Tls {
    /// Reads the certificates in `folder`, or makes them; the broker's bears the addresses it listens on, unless there
    /// are files of somebody else's for it.
    ///
    /// # Errors
    /// [`TlsError`] when they can be neither read nor made.
    pub fn open(
        world: &World,
        folder: &Path,
        addresses: &[SocketAddr],
        names: &[String],
        given: Option<&PairFiles>,
    ) -> Result<Tls, TlsError> {
        let failed = |error| TlsError::File { path: folder.to_owned(), error };
        folder::make(&*world.disk, folder).map_err(failed)?;
        let now = world.clock.now();
        let (certificate, key) = keep(world, folder, "ca", || make_ca(now))?;
        let key = KeyPair::from_pem(&key).map_err(|error| wrong("the authority's key", error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| wrong("ca.pem", error))?;
        let authority = Authority { certificate, issuer };
        let own = || PairFiles { certificate: folder.join("broker.pem"), key: folder.join("broker-key.pem") };
        let files = given.cloned().unwrap_or_else(own);
        let made = match given {
            None => {
                let made = authority.broker(now, addresses, names)?;
                write(world, &files.key, &made.key)?;
                write(world, &files.certificate, &made.certificate)?;
                Some(made)
            }
            Some(_) => None,
        };
        let pair = Pair::read(lying(world, &files)?, now)?;
        Ok(Tls {
            authority,
            shown: Arc::new(Shown::new(pair)),
            files,
            own: Mutex::new(made),
            trouble: Mutex::new(None),
            addresses: addresses.to_vec(),
            names: names.to_vec(),
        })
    }

    /// What a listener shows and demands.
    ///
    /// # Errors
    /// [`TlsError`] when the certificates are none.
    pub fn server(&self, alpn: &[u8]) -> Result<rustls::ServerConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority.certificate)? {
            roots.add(certificate).map_err(|error| wrong("ca.pem", error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| wrong("ca.pem", error))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong("TLS 1.3", error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.max_early_data_size = 0;
        Ok(config)
    }
}

impl Authority {
    /// The authority's certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// An identity for a client: its principal stands in the certificate as a URI.
    ///
    /// # Errors
    /// [`TlsError`] when none can be made.
    pub fn client(&self, now: Timestamp, tenant: &str, name: &str) -> Result<Identity, TlsError> {
        let mut params = params(now, LEAF_DAYS, name);
        let uri = format!("tidemill://tenant/{tenant}/{name}");
        let uri = uri.as_str().try_into().map_err(|error| wrong("the client's name", error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn broker(
        &self,
        now: Timestamp,
        addresses: &[SocketAddr],
        names: &[String],
    ) -> Result<Identity, TlsError> {
        let mut params = params(now, LEAF_DAYS, "broker");
        let mut all: Vec<String> = vec![SERVER_NAME.into(), "localhost".into()];
        all.extend(names.iter().cloned());
        for name in all {
            let name = name.as_str().try_into().map_err(|error| wrong("the broker's name", error))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(address.ip())));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<Identity, TlsError> {
        let key = KeyPair::generate().map_err(|error| wrong("a key", error))?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| wrong("a certificate", error))?;
        Ok(Identity { certificate: signed.pem(), key: key.serialize_pem() })
    }
}

fn params(now: Timestamp, days: u32, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::OrganizationName, "Tidemill");
    distinguished.push(DnType::CommonName, name);
    params.distinguished_name = distinguished;
    // A day back, for clocks that differ.
    let start = std::time::UNIX_EPOCH + Duration::from_millis(now.0).saturating_sub(DAY);
    params.not_before = start.into();
    params.not_after = (start + DAY * (days + 1)).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn make_ca(now: Timestamp) -> Result<Identity, TlsError> {
    let mut params = params(now, CA_DAYS, "cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(|error| wrong("a key", error))?;
    let certificate = params.self_signed(&key).map_err(|error| wrong("a certificate", error))?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// The certificate and key of a name, as they lie in the folder, or made and kept there.
fn keep(
    world: &World,
    folder: &Path,
    name: &str,
    make: impl FnOnce() -> Result<Identity, TlsError>,
) -> Result<(String, String), TlsError> {
    let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}-key.pem")));
    if let (Some(certificate), Some(key)) = (read(world, &certificate)?, read(world, &key)?) {
        return Ok((certificate, key));
    }
    let made = make()?;
    write(world, &key, &made.key)?;
    write(world, &certificate, &made.certificate)?;
    Ok((made.certificate, made.key))
}

/// The pair that lies in its files.
fn lying(world: &World, files: &PairFiles) -> Result<Identity, TlsError> {
    let one = |path: &Path| {
        let missing = || wrong(&path.display().to_string(), "the file is missing, or no text");
        read(world, path)?.ok_or_else(missing)
    };
    Ok(Identity { certificate: one(&files.certificate)?, key: one(&files.key)? })
}

fn read(world: &World, path: &Path) -> Result<Option<String>, TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let bytes = files::read(&*world.disk, path, PEM_BYTES_MAX).map_err(failed)?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

fn write(world: &World, path: &Path, text: &str) -> Result<(), TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    files::replace(&*world.disk, path, text.as_bytes()).map_err(failed)
}

/// The certificates in a PEM text.
///
/// # Errors
/// [`TlsError`] when there are none.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.map_err(|error| wrong("a certificate", error))
}

/// The private key in a PEM text.
///
/// # Errors
/// [`TlsError`] when there is none.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong("a private key", error))
}

fn wrong(what: &str, why: impl ToString) -> TlsError {
    TlsError::Certificate { what: what.to_owned(), why: why.to_string() }
}
