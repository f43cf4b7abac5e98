//! The other end: takes frames and answers each, as a broker would that has nothing to do.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime};
use tidemill_client::transport;
use tidemill_protocol::frame::{self, FrameDecoder};

use super::{ANSWER, MESSAGE_BYTES, next_frame, tls};

/// Serves until standard input ends, with the identity of the broker whose data folder this is. The first line of
/// its output is where it listens.
///
/// # Errors
/// When there is no identity, or no socket.
pub fn run(data: &Path) -> anyhow::Result<()> {
    let mut config = ServerConfig::with_crypto(Arc::new(tls::server(data)?));
    let mut settings = transport::transport_config();
    // A client's settings, and a broker opens no streams: this is what a broker allows its clients.
    settings.max_concurrent_bidi_streams(256u32.into());
    config.transport_config(Arc::new(settings));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let (socket, _) = transport::bind(([127, 0, 0, 1], 0).into())?;
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
        println!("{}", endpoint.local_addr()?);
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    converse(connection).await;
                }
            });
        }
        Ok(())
    })
}

async fn converse(connection: Connection) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(async move {
            if let Err(error) = answer(send, receive).await {
                eprintln!("quinn's peer: a stream ended: {error:#}");
            }
        });
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream) -> anyhow::Result<()> {
    let mut frames = FrameDecoder::new(MESSAGE_BYTES);
    while next_frame(&mut receive, &mut frames).await?.is_some() {
        send.write_all_chunks(&mut frame::encode(vec![ANSWER])).await?;
    }
    send.finish()?;
    Ok(())
}
