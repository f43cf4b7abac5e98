//! What a client is told at its start.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
use crate::tls::Tls;

/// How to reach a cluster, and how patient to be.
///
/// ```no_run
/// # fn example() -> Result<(), tidemill_client::Error> {
/// use tidemill_client::{Config, Tls};
///
/// let tls = Tls::from_files("ca.pem", "client.pem", "client-key.pem")?;
/// let mut config = Config::new(["localhost:9642"], tls);
/// config.client_id = "till-7".to_owned();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Some brokers, as `host:port`; the others are found through them.
    pub brokers: Vec<String>,
    /// Certificates.
    pub tls: Tls,
    /// What this client calls itself in a broker's log.
    pub client_id: String,
    /// How long one attempt at a connection may take. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long an answer may take, beyond what the request itself waits for. Default: 30 s.
    pub request_timeout: Duration,
    /// Age after which what is known of a topic is asked for again. Default: 5 minutes.
    pub metadata_age: Duration,
    /// How long a topic may be unknown to the brokers before that is believed: one that was just created spreads.
    /// Default: 5 s.
    pub topic_patience: Duration,
}

impl Config {
    /// The defaults, for a cluster of which some `brokers` are known.
    pub fn new<B: Into<String>>(brokers: impl IntoIterator<Item = B>, tls: Tls) -> Config {
        Config {
            brokers: brokers.into_iter().map(Into::into).collect(),
            tls,
            client_id: "tidemill-client".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            metadata_age: Duration::from_secs(300),
            topic_patience: Duration::from_secs(5),
        }
    }
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        let wrong = || Error::impossible(format!("{text:?} is no broker's address: use host:port"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port.parse() {
            Ok(port) if !host.is_empty() => Ok(Address { host: host.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for good in ["localhost:9092", "127.0.0.1:1", "[::1]:9092", "broker-1.example:65535"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["", "localhost", ":9092", "localhost:", "localhost:65536", "localhost:x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
