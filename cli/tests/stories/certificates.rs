//! A broker's certificate is replaced while it runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use xtask::process::{Broker, counter};

use crate::{broker, produce};

/// An authority that no broker made.
struct Other {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Other {
    fn new() -> Other {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Other { pem, issuer: Issuer::new(params, key) }
    }

    /// Puts a pair that ends at the beginning of a year into two files.
    fn put(&self, certificate: &Path, key: &Path, ends: i32) {
        let mut params = CertificateParams::new(["tidemill".to_owned(), "localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        let made = KeyPair::generate().unwrap();
        fs::write(certificate, params.signed_by(&made, &self.issuer).unwrap().pem()).unwrap();
        fs::write(key, made.serialize_pem()).unwrap();
    }
}

/// Adds a context that trusts another authority.
fn trust(broker: &Broker, data: &Path, name: &str, ca: &Path) {
    let file = |name: &str| data.join("client").join(name).display().to_string();
    let (quic, admin) = (broker.address("quic").unwrap(), broker.address("admin").unwrap());
    let ca = ca.display().to_string();
    let add = ["context", "add", name, "--broker", quic, "--admin", admin, "--ca", &ca];
    let own = ["--certificate", &file("client.pem"), "--key", &file("client-key.pem")];
    broker.run(&[&add[..], &own[..]].concat()).unwrap();
}

/// Seconds since 1970 at the beginning of 2040 and 2041.
const ENDS: [(i32, f64); 2] = [(2040, 2_208_988_800.0), (2041, 2_240_611_200.0)];

fn ends(broker: &Broker) -> f64 {
    let name = "tidemill_certificate_expiry_timestamp_seconds";
    counter(&broker.metrics().unwrap(), name, r#"certificate="broker""#)
}

#[test]
fn a_certificate_is_replaced_while_the_broker_runs() {
    let (folder, broker) = broker(&[]);
    let data = folder.path().join("data");
    broker.run(&["topic", "create", "orders"]).unwrap();
    produce(&broker, &["orders"], "one\n");
    assert!(ends(&broker) > 0.0);

    let mut command = broker.command();
    command.args(["consume", "orders", "--from-beginning", "--limit", "2"]).stdout(Stdio::piped());
    let mut old = command.spawn().unwrap();
    let mut lines = BufReader::new(old.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("one"));

    let other = Other::new();
    let ca = folder.path().join("other.pem");
    fs::write(&ca, &other.pem).unwrap();
    trust(&broker, &data, "other", &ca);
    let in_other =
        |arguments: &[&str]| broker.command().args(["--context", "other"]).args(arguments).output();
    assert!(!in_other(&["topic", "list"]).unwrap().status.success(), "the broker shows its own still");

    let (certificate, key) = (data.join("tls/broker.pem"), data.join("tls/broker-key.pem"));
    other.put(&certificate, &key, ENDS[0].0);
    let taken = broker.json(&["certificate", "reload"]).unwrap();
    assert_eq!((&taken["changed"], &taken["certificates"][1]["name"]), (&true.into(), &"broker".into()));
    assert_eq!(ends(&broker), ENDS[0].1);

    // Who comes now is shown the new one, over TLS and over QUIC: only who trusts its authority gets in.
    let local = broker.command().args(["topic", "list"]).output().unwrap();
    assert_eq!(local.status.code(), Some(3), "{local:?}");
    let consume = ["consume", "orders", "--from-beginning", "--exit-at-end"];
    assert!(!broker.command().args(consume).output().unwrap().status.success());
    assert!(in_other(&["topic", "list"]).unwrap().status.success());
    produce(&broker, &["orders", "--context", "other"], "two\n");
    // Who was there goes on.
    assert!(lines.next().unwrap().unwrap().contains("two"));
    assert!(old.wait().unwrap().success());

    // A pair that does not do is refused, and the one before it stays.
    fs::write(&key, "no key").unwrap();
    let refused = in_other(&["certificate", "reload"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let list = in_other(&["certificate", "list"]).unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains("cannot be shown"), "{list:?}");
    assert!(in_other(&consume).unwrap().status.success());
    assert_eq!(ends(&broker), ENDS[0].1);
}

#[test]
fn a_broker_shows_the_certificate_that_it_is_given() {
    let given = tempfile::tempdir().unwrap();
    let (certificate, key) = (given.path().join("a.pem"), given.path().join("a-key.pem"));
    let ca = given.path().join("ca.pem");
    let other = Other::new();
    fs::write(&ca, &other.pem).unwrap();
    other.put(&certificate, &key, ENDS[0].0);
    let setting = |name: &str, path: &Path| format!("tls.{name}={}", path.display());
    let (folder, mut broker) = broker(&[&setting("certificate", &certificate), &setting("key", &key)]);
    let data = folder.path().join("data");
    trust(&broker, &data, "other", &ca);
    broker.run(&["topic", "create", "orders", "--context", "other"]).unwrap();
    other.put(&certificate, &key, ENDS[1].0);
    broker.run(&["certificate", "reload", "--context", "other"]).unwrap();
    assert_eq!(ends(&broker), ENDS[1].1);
    // What somebody else gave is not written over.
    broker.stop().unwrap();
    broker.restart().unwrap();
    broker.run(&["topic", "list", "--context", "other"]).unwrap();
}
