//! Bytes on a connection: lengths, heads, versions and bodies.
//!
//! After each row the client says that it sends no more. Whatever could be understood is answered; the first thing that
//! could not ends the connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::api::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use tidemill_protocol::api::{Envelope, Request, Response, SPOKEN, decode_response, encode_request};
use tidemill_protocol::error::ErrorCode;
use tidemill_protocol::frame::{self, FrameDecoder};

use crate::door::{Door, Row};

const FRAME_BYTES_MAX: i32 = 16 << 20;

const SHUT: &str = "closed, and nothing said";

/// The head of a request: API, version, correlation id 7, no client's name.
fn head(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat()
}

/// Bytes as a frame.
fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// A request as a frame.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    framed(&[&head(key, version)[..], body].concat())
}

/// A frame that only claims to be so long.
fn claims(length: i32, body: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], body].concat()
}

fn versions() -> Vec<u8> {
    request(18, 0, &[])
}

/// Sends bytes, and tells what came back: the errors of the answers, and that the connection was closed.
fn send(door: &Door, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(door.tcp()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The broker may have closed it already.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut back = Vec::new();
    // Bytes that nobody read make a reset of the end.
    let read = stream.read_to_end(&mut back);
    if read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        return "nothing, and it is still open".to_owned();
    }
    let mut frames = FrameDecoder::new(64 << 20);
    frames.feed(&back);
    let mut told = Vec::new();
    while let Ok(Some(frame)) = frames.next_frame() {
        told.push(match decode_response(18, 0, frame.clone()) {
            Ok(Response::ApiVersions(answer)) => format!("versions {}", ErrorCode(answer.error_code)),
            _ => format!("an answer of {} bytes", frame.len()),
        });
    }
    if told.is_empty() { SHUT.to_owned() } else { format!("{}, closed", told.join(", ")) }
}

fn table() -> Vec<Row<Vec<u8>>> {
    let cut = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    vec![
        // Lengths.
        ("nothing at all", vec![], SHUT),
        ("half a length", vec![0, 0], SHUT),
        ("a length and nothing", claims(100, &[]), SHUT),
        ("half of a frame", cut(versions(), 9), SHUT),
        ("an empty frame", framed(&[]), SHUT),
        ("length -1", claims(-1, &head(18, 0)), SHUT),
        ("the least length", claims(i32::MIN, &head(18, 0)), SHUT),
        ("the largest length", claims(i32::MAX, &head(18, 0)), SHUT),
        ("a byte more than may be", claims(FRAME_BYTES_MAX + 1, &head(18, 0)), SHUT),
        ("as much as may be, and not sent", claims(FRAME_BYTES_MAX, &head(18, 0)), SHUT),
        ("16 MiB of zeros", framed(&vec![0; FRAME_BYTES_MAX as usize]), SHUT),
        ("16 MiB of ones", framed(&vec![0xff; FRAME_BYTES_MAX as usize]), SHUT),
        ("a thousand empty frames", framed(&[]).repeat(1_000), SHUT),
        // Other protocols.
        ("HTTP", b"GET /v1/topics HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), SHUT),
        ("TLS", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], SHUT),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), SHUT),
        ("a response", framed(&[0, 0, 0, 7, 0, 0]), SHUT),
        // Heads.
        ("a head of one byte", framed(&[0]), SHUT),
        ("a head of seven bytes", framed(&[0, 18, 0, 0, 0, 0, 0]), SHUT),
        ("a head without the client's name", framed(&[0, 18, 0, 0, 0, 0, 0, 7]), SHUT),
        ("a client's name of length -2", framed(&[0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xfe]), SHUT),
        ("a client's name longer than the frame", framed(&[0, 18, 0, 0, 0, 0, 0, 7, 0x7f, 0xff, 65]), SHUT),
        ("a client's name that is no UTF-8", framed(&[0, 18, 0, 0, 0, 0, 0, 7, 0, 2, 0xc3, 0x28]), SHUT),
        ("API -1", request(-1, 0, &[]), SHUT),
        ("API 4, LeaderAndIsr", request(4, 0, &[]), SHUT),
        ("API 11, JoinGroup", request(11, 5, &[]), SHUT),
        ("API 17, SaslHandshake", request(17, 1, &[]), SHUT),
        ("API 24, AddPartitionsToTxn", request(24, 0, &[]), SHUT),
        ("API 23, OffsetForLeaderEpoch", request(23, 2, &[]), SHUT),
        ("API 60, DescribeCluster", request(60, 0, &[]), SHUT),
        ("API 32767", request(i16::MAX, 0, &[]), SHUT),
        // What there is, whatever was asked for.
        ("ApiVersions 4", request(18, 4, &[]), "versions UNSUPPORTED_VERSION"),
        ("ApiVersions -1", request(18, -1, &[]), "versions UNSUPPORTED_VERSION"),
        (
            "ApiVersions 32767, and rubbish",
            request(18, i16::MAX, &[1, 2, 3, 4]),
            "versions UNSUPPORTED_VERSION",
        ),
        (
            "after an unsupported version, goes on",
            [request(18, 99, &[]), versions()].concat(),
            "versions UNSUPPORTED_VERSION, versions NONE",
        ),
        // Order.
        ("good, then rubbish", [versions(), framed(&[9])].concat(), "versions NONE, closed"),
        ("rubbish, then good", [framed(&[9]), versions()].concat(), SHUT),
        ("one correlation id twice", versions().repeat(2), "versions NONE, versions NONE"),
        ("a thousand requests at once", versions().repeat(1_000), "versions NONE, versions NONE"),
        (
            "a good one, and half of the next",
            [versions(), cut(versions(), 11)].concat(),
            "versions NONE, closed",
        ),
        // Counts and lengths in bodies.
        ("2,147,483,647 topics", request(3, 1, &i32::MAX.to_be_bytes()), SHUT),
        ("-2 topics", request(3, 1, &(-2i32).to_be_bytes()), SHUT),
        ("five topics, and none there", request(3, 1, &5i32.to_be_bytes()), SHUT),
        ("a topic's name of length -2", request(3, 1, &[0, 0, 0, 1, 0xff, 0xfe]), SHUT),
        ("a topic's name that is no UTF-8", request(3, 1, &[0, 0, 0, 1, 0, 1, 0xff]), SHUT),
        ("a topic's name that is null", request(3, 1, &[0, 0, 0, 1, 0xff, 0xff]), "an answer of"),
        (
            "131,073 topics",
            request(3, 1, &[&131_073i32.to_be_bytes()[..], &[0, 0].repeat(131_073)].concat()),
            SHUT,
        ),
        ("a count of ten bytes", request(3, 9, &[&[0][..], &[0xff; 10]].concat()), SHUT),
        ("a count that never ends", request(3, 9, &[&[0][..], &[0x80; 1_000]].concat()), SHUT),
        ("a count over 32 bits", request(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x7f]), SHUT),
        ("a count of 4 thousand millions", request(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f]), SHUT),
        ("a million tagged fields", request(3, 9, &[0, 1, 1, 0, 0xc0, 0x84, 0x3d]), SHUT),
        ("a tagged field longer than the frame", request(3, 9, &[0, 1, 1, 0, 1, 9, 0x7f]), SHUT),
        ("tagged fields in the head that never end", request(3, 9, &[0xff; 64]), SHUT),
        ("bytes behind the message", request(18, 0, &[0; 8]), SHUT),
        ("a group that is null", request(8, 2, &[0xff, 0xff, 0, 0, 0, 0, 0, 0]), SHUT),
        (
            "records of length -2",
            request(
                0,
                3,
                &[
                    &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, 0][..],
                    &(-2i32).to_be_bytes(),
                ]
                .concat(),
            ),
            SHUT,
        ),
        (
            "records longer than the frame",
            request(
                0,
                3,
                &[
                    &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, 0][..],
                    &i32::MAX.to_be_bytes(),
                ]
                .concat(),
            ),
            SHUT,
        ),
    ]
}

/// A request of every API that is spoken, with nothing in it.
fn empty() -> Vec<Request> {
    vec![
        Request::Produce(ProduceRequest::default()),
        Request::Fetch(FetchRequest::default()),
        Request::ListOffsets(ListOffsetsRequest::default()),
        Request::Metadata(MetadataRequest::default().with_topics(Some(vec![]))),
        Request::OffsetCommit(OffsetCommitRequest::default()),
        Request::OffsetFetch(OffsetFetchRequest::default()),
        Request::FindCoordinator(FindCoordinatorRequest::default()),
        Request::ApiVersions(ApiVersionsRequest::default()),
        Request::CreateTopics(CreateTopicsRequest::default()),
        Request::DeleteTopics(DeleteTopicsRequest::default()),
        Request::DeleteRecords(DeleteRecordsRequest::default()),
        Request::InitProducerId(InitProducerIdRequest::default()),
        Request::DescribeConfigs(DescribeConfigsRequest::default()),
        Request::CreatePartitions(CreatePartitionsRequest::default()),
        Request::IncrementalAlterConfigs(IncrementalAlterConfigsRequest::default()),
    ]
}

#[test]
fn frames_that_are_none() {
    let door = Door::open(&[]);
    door.walk(table(), |bytes| send(&door, &bytes));
    for spoken in SPOKEN.iter().filter(|spoken| spoken.key != 18) {
        for version in [spoken.min - 1, spoken.max + 1, i16::MIN, i16::MAX] {
            let told = send(&door, &request(spoken.key, version, &[0; 32]));
            door.row(&format!("{} {version}", spoken.name), &told, SHUT);
        }
    }
    for empty in empty() {
        let spoken = empty.spoken();
        for version in spoken.min..=spoken.max {
            let envelope = Envelope { key: spoken.key, version, correlation_id: 7, client_id: None };
            let Ok(body) = encode_request(&envelope, &empty) else { continue };
            let whole: Bytes = frame::encode(vec![body.clone()]).concat().into();
            let name = |what: &str| format!("{} {version}, {what}", spoken.name);
            // What has nothing in it is a request, and is answered; Produce asked for no acknowledgement.
            let wanted = if spoken.key == 0 { SHUT } else { "answer | closed" };
            let told = send(&door, &whole).replace("versions NONE", "an answer");
            door.row(&name("empty"), &told, wanted);
            let told = send(&door, &framed(&[&body[..], &[0; 8]].concat()));
            door.row(&name("and eight bytes"), &told, SHUT);
            if version == spoken.min || version == spoken.max {
                // Cut anywhere, the rest is no request; so long as anything of its body is gone.
                for length in [body.len() - 1, body.len() / 2 + 3] {
                    let told = send(&door, &framed(&body[..length]));
                    door.row(&name(&format!("the first {length} bytes")), &told, SHUT);
                }
            }
        }
    }
    door.close(250);
}
