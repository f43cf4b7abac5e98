//! Connections and streams: requests are worked on in the order of their stream and answered in that order, and go on
//! being worked on for a while when the connection is gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, RecvStream, SendStream,
    ServerConfig, TokioRuntime,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidemill_client::transport::{self, ALPN};
use tidemill_protocol::api::{decode_request, encode_response};
use tidemill_protocol::frame::{FrameDecoder, encode};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Inside;
use super::requests::{self, Answer};
use crate::certificates::Certificates;

/// Requests of a stream that were read and not worked on.
const QUEUE: usize = 1_024;

/// Starts the broker's threads at an address.
pub fn run(
    inside: &Arc<Inside>,
    certificates: &Certificates,
    address: SocketAddr,
) -> std::io::Result<Runtime> {
    let (socket, _) = transport::bind(address)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let entered = runtime.enter();
    // With these two, who talks to the broker that was here before is told at once that it is gone.
    let mut config = EndpointConfig::new(Arc::new(SameKey));
    config.cid_generator(|| Box::new(AnyId));
    let endpoint = Endpoint::new(config, Some(server(certificates)), socket, Arc::new(TokioRuntime))?;
    let inside = inside.clone();
    runtime.spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let inside = inside.clone();
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    inside.connections().push(connection.clone());
                    converse(inside, connection, address).await;
                }
            });
        }
    });
    drop(entered);
    Ok(runtime)
}

fn server(certificates: &Certificates) -> ServerConfig {
    let read =
        |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect::<Vec<_>>();
    let mut roots = RootCertStore::empty();
    read(&certificates.authority).into_iter().for_each(|certificate| roots.add(certificate).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let (certificate, key) = &certificates.broker;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(read(certificate), PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
    let mut settings = transport::transport_config();
    settings.max_concurrent_bidi_streams(256u16.into());
    config.transport_config(Arc::new(settings));
    config
}

async fn converse(inside: Arc<Inside>, connection: Connection, address: SocketAddr) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        let (frames, queue) = mpsc::channel(QUEUE);
        let (answers, sent) = mpsc::channel(QUEUE);
        tokio::spawn(read(receive, frames));
        tokio::spawn(work(inside.clone(), connection.clone(), queue, answers, address));
        tokio::spawn(write(send, sent));
    }
}

async fn read(mut receive: RecvStream, frames: mpsc::Sender<Bytes>) {
    let mut decoder = FrameDecoder::new(16 << 20);
    while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
        decoder.feed(&chunk.bytes);
        while let Some(frame) = decoder.next_frame().unwrap() {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    }
}

async fn work(
    inside: Arc<Inside>,
    connection: Connection,
    mut frames: mpsc::Receiver<Bytes>,
    answers: mpsc::Sender<(Instant, Bytes)>,
    address: SocketAddr,
) {
    while let Some(frame) = frames.recv().await {
        let is_gone = connection.close_reason().is_some();
        if is_gone {
            let pause = {
                let mut faults = inside.faults();
                let most = faults.lingers.as_micros() as u64;
                (most > 0).then(|| Duration::from_micros(faults.dice.below(most)))
            };
            let Some(pause) = pause else { return };
            tokio::time::sleep(pause).await;
        }
        let (head, request) = decode_request(frame).unwrap();
        let answer = requests::answer(&inside, &head, request, address).await;
        let commit = inside.faults().commit;
        match answer {
            Answer::Response(response) => {
                let bytes = encode_response(head.key, head.version, head.correlation_id, &response).unwrap();
                let due = Instant::now() + commit;
                let _ = answers.send((due, bytes)).await;
            }
            Answer::Silence => {}
            Answer::Cut => connection.close(1u8.into(), b"cut"),
        }
    }
}

async fn write(mut send: SendStream, mut answers: mpsc::Receiver<(Instant, Bytes)>) {
    while let Some((due, bytes)) = answers.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        let mut parts = encode(vec![bytes]);
        if send.write_all_chunks(&mut parts).await.is_err() {
            return;
        }
    }
    let _ = send.finish();
}

/// Ids of connections that a broker takes for its own after a restart, too.
struct AnyId;

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        getrandom::fill(&mut id).unwrap();
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A key that outlives a restart. It keeps no secret: this is a test.
struct SameKey;

impl HmacKey for SameKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        for (at, byte) in signature.iter_mut().enumerate() {
            *byte = data[at % data.len()].wrapping_mul(31).wrapping_add(at as u8);
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let mut expected = [0; 32];
        self.sign(data, &mut expected);
        if expected == signature { Ok(()) } else { Err(CryptoError) }
    }
}
