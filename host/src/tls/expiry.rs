//! When a certificate ends: read from the certificate itself, for status, metrics and warnings.

use std::time::Duration;

use tidemill_core::seams::Timestamp;
use x509_parser::parse_x509_certificate;

use super::{TlsError, certificates, wrong};

/// From so long before its end a certificate is warned of.
pub const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// When the first of the certificates in a PEM text ends.
///
/// # Errors
/// [`TlsError`] when there is none, or one that cannot be read.
pub fn expiry(pem: &str) -> Result<Timestamp, TlsError> {
    let ends = certificates(pem)?.into_iter().map(|der| {
        let (_, certificate) = parse_x509_certificate(&der).map_err(|error| wrong("a certificate", error))?;
        let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Timestamp(seconds.saturating_mul(1_000)))
    });
    let ends: Vec<_> = ends.collect::<Result<_, TlsError>>()?;
    ends.into_iter().min().ok_or_else(|| wrong("a certificate", "the file holds none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_counts() {
        let certificate = |year| {
            let mut params = rcgen::CertificateParams::default();
            params.not_after = rcgen::date_time_ymd(year, 1, 2);
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        // 2030-01-02 and 2031-01-02, both at midnight.
        let (sooner, later) = (certificate(2030), certificate(2031));
        assert_eq!(expiry(&sooner).unwrap(), Timestamp(1_893_542_400_000));
        assert_eq!(expiry(&format!("{later}{sooner}")).unwrap(), Timestamp(1_893_542_400_000));
        assert_eq!(expiry(&later).unwrap(), Timestamp(1_925_078_400_000));
        assert!(expiry("").is_err(), "none at all");
        assert!(expiry("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
