//! Our client in this process, against a broker that a chore started.

use anyhow::Context;
use tidemill_client::{Client, Config, Tls};

use crate::process::Broker;

/// A client with the identity that the broker made for the command.
///
/// # Errors
/// When its files are not there, or the broker does not answer.
pub async fn connect(broker: &Broker) -> anyhow::Result<Client> {
    let files = broker.folder().join("data/client");
    let tls = Tls::from_files(files.join("ca.pem"), files.join("client.pem"), files.join("client-key.pem"))?;
    let address = broker.address("quic").context("an address for clients")?.to_owned();
    Ok(Client::connect(Config::new([address], tls)).await?)
}
