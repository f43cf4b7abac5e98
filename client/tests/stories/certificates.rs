//! An authority for a test, and certificates of it.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tidemill_client::Tls;

pub struct Certificates {
    pub authority: String,
    pub broker: (String, String),
    pub client: (String, String),
}

impl Certificates {
    pub fn make() -> Certificates {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let sign = |name: &str, usage| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        Certificates {
            broker: sign(Tls::SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth),
            client: sign("client", ExtendedKeyUsagePurpose::ClientAuth),
            authority,
        }
    }

    pub fn client(&self) -> Tls {
        let (certificate, key) = &self.client;
        Tls::from_pem(self.authority.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}
