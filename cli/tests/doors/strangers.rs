//! Who comes without the right papers, with the wrong protocol, or to say nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use tidemill_protocol::api::{Response, decode_response};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::frame::FrameDecoder;

use crate::door::{Door, Row};
use crate::tls::{self, Identity};

/// Whose papers somebody shows.
type Papers = fn(&Door) -> Option<Identity>;

fn client() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![SanType::URI("spiffe://tidemill/tenant/default".try_into().unwrap())];
    params
}

fn papers() -> Vec<Row<Papers>> {
    vec![
        ("nobody's", |_| None, "refused"),
        ("a stranger's", |_| Some(tls::signed(&tls::stranger(), &client())), "refused"),
        (
            "some that are over",
            |door| {
                let mut params = client();
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
                Some(tls::signed(&tls::authority(&door.data()), &params))
            },
            "refused",
        ),
        (
            "some that are to come",
            |door| {
                let mut params = client();
                params.not_before = date_time_ymd(2900, 1, 1);
                params.not_after = date_time_ymd(2901, 1, 1);
                Some(tls::signed(&tls::authority(&door.data()), &params))
            },
            "refused",
        ),
        (
            "a server's",
            |door| {
                let mut params = client();
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                Some(tls::signed(&tls::authority(&door.data()), &params))
            },
            "refused",
        ),
        (
            "an authority's",
            |door| {
                let mut params = client();
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                Some(tls::signed(&tls::authority(&door.data()), &params))
            },
            "refused",
        ),
        (
            "its own, with another's key",
            |door| {
                let other = tls::signed(&tls::stranger(), &client());
                Some(Identity { key: other.key, ..tls::own(&door.data()) })
            },
            "refused",
        ),
        (
            "a hundred of them",
            |door| {
                let own = tls::own(&door.data());
                let more = (0..100).flat_map(|_| tls::signed(&tls::stranger(), &client()).chain);
                Some(Identity { chain: own.chain.into_iter().chain(more).collect(), key: own.key })
            },
            "served",
        ),
        ("its own", |door| Some(tls::own(&door.data())), "served"),
    ]
}

/// Asks for the topics, over TLS.
fn over_tls(door: &Door, identity: Option<Identity>, protocols: &[&[u8]]) -> String {
    let config = Arc::new(tls::config(&door.data(), identity, protocols));
    let mut stream = tls::connect(door.broker.address("admin").unwrap(), config);
    let get = b"GET /v1/topics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    match tls::exchange(&mut stream, get) {
        Ok(back) if back.starts_with(b"HTTP/1.1 200") => "served".to_owned(),
        Ok(back) => format!("refused: {}", String::from_utf8_lossy(&back)),
        Err(error) => format!("refused: {error}"),
    }
}

/// Sends bytes on a stream over QUIC, and tells what came back.
fn over_quic(door: &Door, identity: Option<Identity>, protocols: &[&[u8]], bytes: &[u8]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = QuicClientConfig::try_from(tls::config(&door.data(), identity, protocols)).unwrap();
    let address: SocketAddr = door.broker.address("quic").unwrap().parse().unwrap();
    runtime.block_on(async {
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
        let talk = async {
            let connection = endpoint.connect(address, "tidemill")?.await?;
            let (mut send, mut receive) = connection.open_bi().await?;
            send.write_all(bytes).await?;
            send.finish()?;
            let back = receive.read_to_end(1 << 20).await?;
            connection.close(0u8.into(), b"");
            anyhow::Ok(back)
        };
        let told = match talk.await {
            Ok(back) => answers(&back),
            Err(error) => format!("refused: {error:#}"),
        };
        endpoint.wait_idle().await;
        told
    })
}

fn answers(back: &[u8]) -> String {
    let mut frames = FrameDecoder::new(1 << 20);
    frames.feed(back);
    let mut told = Vec::new();
    while let Ok(Some(frame)) = frames.next_frame() {
        told.push(match decode_response(18, 0, frame) {
            Ok(Response::ApiVersions(answer)) => format!("served {}", ErrorCode(answer.error_code)),
            other => format!("{other:?}"),
        });
    }
    if told.is_empty() { "closed, and nothing said".to_owned() } else { told.join(", ") }
}

const KAFKA: &[&[u8]] = &[b"tidemill/1"];
const VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

#[test]
fn strangers_are_not_heard() {
    let door = Door::open(&[]);
    door.walk(papers(), |papers| over_tls(&door, papers(&door), &[b"http/1.1"]));
    door.walk(papers(), |papers| over_quic(&door, papers(&door), KAFKA, VERSIONS));
    let protocols: Vec<Row<&[&[u8]]>> = vec![
        ("no protocol over QUIC", &[], "refused"),
        ("HTTP/3", &[b"h3"], "refused"),
        ("another version of ours", &[b"tidemill/2"], "refused"),
        ("brokers' own", &[b"tidemill-peer/1"], "refused"),
        ("several, with ours", &[b"h3", b"tidemill/1"], "served"),
    ];
    door.walk(protocols, |protocols| over_quic(&door, Some(tls::own(&door.data())), protocols, VERSIONS));
    let protocols: Vec<Row<&[&[u8]]>> = vec![
        ("HTTP/2 over TLS", &[b"h2"], "refused"),
        ("Kafka's protocol at the admin's door", KAFKA, "refused"),
    ];
    door.walk(protocols, |protocols| over_tls(&door, Some(tls::own(&door.data())), protocols));
    let streams: Vec<Row<Vec<u8>>> = vec![
        ("a stream of nothing", vec![], "closed, and nothing said"),
        ("half a length", vec![0, 0], "closed, and nothing said"),
        ("length -1", vec![0xff; 4], "closed, and nothing said"),
        ("the largest length", vec![0x7f, 0xff, 0xff, 0xff, 0, 0], "closed, and nothing said"),
        ("an empty frame", vec![0; 4], "closed, and nothing said"),
        ("rubbish", vec![0x55; 1_000], "closed, and nothing said"),
        ("a good one, then rubbish", [VERSIONS, &[0xff; 100]].concat(), "served NONE"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "closed, and nothing said"),
    ];
    door.walk(streams, |bytes| over_quic(&door, Some(tls::own(&door.data())), KAFKA, &bytes));
    datagrams(&door);
    silence(&door);
    door.close(40);
}

/// Datagrams that are no QUIC, or none that anybody waits for.
fn datagrams(door: &Door) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = door.broker.address("quic").unwrap();
    let long = |version: u32, length: usize| {
        let head = [&[0xc0][..], &version.to_be_bytes(), &[8], &[7; 8], &[8], &[9; 8]].concat();
        [head, vec![0x55; length]].concat()
    };
    let rows: Vec<Row<Vec<u8>>> = vec![
        ("an empty datagram", vec![], ""),
        ("one byte", vec![0xff], ""),
        ("zeros", vec![0; 1_200], ""),
        ("ones", vec![0xff; 1_200], ""),
        ("the largest datagram", vec![0x40; 65_507], ""),
        ("a version that there is not", long(0x1a2a_3a4a, 1_200), ""),
        ("an Initial of rubbish", long(1, 1_200), ""),
        ("a short Initial", long(1, 20), ""),
        ("a version negotiation", long(0, 100), ""),
        ("a connection id of 255 bytes", [&[0xc0, 0, 0, 0, 1, 255][..], &[7; 300]].concat(), ""),
        ("a stateless reset of nobody", vec![0x41; 43], ""),
    ];
    door.walk(rows, |datagram| {
        (0..20).for_each(|_| drop(socket.send_to(&datagram, address)));
        String::new()
    });
}

/// Clients that come and say nothing, or half of something: each is let go.
fn silence(door: &Door) {
    const PATIENCE: Duration = Duration::from_secs(40);
    let admin = door.broker.address("admin").unwrap().to_owned();
    let config = Arc::new(tls::config(&door.data(), Some(tls::own(&door.data())), &[b"http/1.1"]));
    let connect = |address: &str, bytes: &[u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let mut head = tls::connect(&admin, config);
    head.write_all(b"GET /v1/topics HTTP/1.1\r\nHost: a\r\nHalf-of-a-head").unwrap();
    head.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut half = connect(door.tcp(), &VERSIONS[..9]);
    let mut silent = connect(&admin, b"");
    let mut hello = connect(&admin, &[0x16, 3, 1, 2, 0, 1]);
    let start = Instant::now();
    let ends = |name: &str, stream: &mut dyn Read| {
        let mut back = Vec::new();
        let ended = stream.read_to_end(&mut back);
        let still = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        door.row(name, if still { "still open" } else { "let go" }, "let go");
    };
    ends("half a frame", &mut half);
    ends("nothing before TLS", &mut silent);
    ends("half a hello", &mut hello);
    ends("half a head", &mut head);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}
