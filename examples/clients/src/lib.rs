//! What the examples share: how to reach the broker.
//!
//! `TIDEMILL_BROKER` is its address, `TIDEMILL_TLS` a folder with `ca.pem`, `client.pem` and `client-key.pem`.

use std::path::PathBuf;

use anyhow::Context;
use tidemill_client::{Client, Config, Tls};

/// Connects to the broker that the environment names.
///
/// # Errors
/// When the environment names none, or when it does not answer.
pub async fn connect() -> anyhow::Result<Client> {
    let broker =
        std::env::var("TIDEMILL_BROKER").context("TIDEMILL_BROKER is the broker's address, host:port")?;
    let folder = std::env::var("TIDEMILL_TLS").context("TIDEMILL_TLS is the folder of the certificates")?;
    let folder = PathBuf::from(folder);
    let tls =
        Tls::from_files(folder.join("ca.pem"), folder.join("client.pem"), folder.join("client-key.pem"))?;
    Ok(Client::connect(Config::new([broker], tls)).await?)
}
