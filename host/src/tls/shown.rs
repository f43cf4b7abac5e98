//! The pair that the listeners show: one certificate and its key, replaced as a whole while they listen.
//!
//! Whoever connects gets the pair of that moment; connections that are there go on with what they agreed on. A pair is
//! taken only if it could be shown: a chain that can be read, a key that belongs to it, an end that is yet to come.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tidemill_core::seams::Timestamp;

use super::{Identity, TlsError, certificates, expiry, private_key, wrong};

/// A pair that could be shown.
#[derive(Clone)]
pub(super) struct Pair {
    /// As it lies in its files.
    pub(super) pem: Identity,
    /// When it ends.
    pub(super) ends: Timestamp,
    key: Arc<CertifiedKey>,
}

impl Pair {
    /// Reads a pair.
    ///
    /// # Errors
    /// [`TlsError`] when it could not be shown.
    pub(super) fn read(pem: Identity, now: Timestamp) -> Result<Pair, TlsError> {
        let ends = expiry(&pem.certificate)?;
        if ends <= now {
            return Err(wrong("the broker's certificate", "it has ended"));
        }
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(certificates(&pem.certificate)?, private_key(&pem.key)?, &provider)
            .map_err(|error| wrong("the broker's pair", error))?;
        Ok(Pair { pem, ends, key: Arc::new(key) })
    }
}

/// The pair that is shown now.
pub(super) struct Shown(RwLock<Pair>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        write!(f, "Shown(until {})", self.0.read().ends)
    }
}

impl Shown {
    pub(super) fn new(pair: Pair) -> Shown {
        Shown(RwLock::new(pair))
    }

    pub(super) fn get(&self) -> Pair {
        self.0.read().clone()
    }

    pub(super) fn set(&self, pair: Pair) {
        *self.0.write() = pair;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().key.clone())
    }
}
