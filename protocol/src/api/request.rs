//! Requests: read by a dispatcher, written by a client.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::shape::{self, Form};
use super::spoken::{Inexpressible, Request, spoken};
use super::weave;
use crate::primitive::Malformed;

/// What stands before a request. Who answers it needs all but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Kafka's number of the API.
    pub key: i16,
    /// The version of the request, and of its response.
    pub version: i16,
    /// What the response repeats.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

/// Bytes that are no request of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// An API that we do not speak. There is no answer that its client could read: the connection is closed.
    #[error("there is no API {key} here")]
    UnknownApi {
        /// Its number.
        key: i16,
    },
    /// A version that we do not speak. Asked for ApiVersions, we answer in version 0 with the error and with what
    /// we do speak; another client could not read an answer.
    #[error("version {} of API {} is not spoken here", .0.version, .0.key)]
    UnsupportedVersion(Envelope),
    /// Not the bytes of a request; the place is counted from the start of the frame.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Elements that a request may hold, of arrays and of tagged fields, all together. A decoded element takes up to some
/// hundred bytes of memory where its encoded form may have three, so the size of the frame alone would bound
/// little; the largest request that a client has reason to send names each partition that it reads.
const ELEMENTS_MAX: usize = 1 << 17;

/// Metadata, and how many bytes may follow such a request. librdkafka (2.3 to 2.16 at least) writes a null of four bytes
/// where one is due, when it asks for all topics in version 9 or later. What then lies behind the message is what should
/// have stood in it: that topics may be made, which they are not here. Kafka's brokers pass over it, too.
const METADATA: i16 = ApiKey::Metadata as i16;
const BEHIND_METADATA_MAX: usize = 3;

/// Reads a request out of a frame. Record data share the frame's memory.
///
/// # Errors
/// [`RequestError`]; for an unsupported version it holds what an answer needs.
pub fn decode_request(frame: Bytes) -> Result<(Envelope, Request), RequestError> {
    let head: [u8; 8] = *frame.first_chunk().ok_or(Malformed { what: "request header", at: 0 })?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let correlation_id = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let spoken = spoken(key).ok_or(RequestError::UnknownApi { key })?;
    let mut head = Envelope { key, version, correlation_id, client_id: None };
    if !spoken.has(version) {
        return Err(RequestError::UnsupportedVersion(head));
    }
    let form = Form::of(spoken, version);
    let body = shape::walk_request_head(&frame, form)?;
    let end = shape::walk_to_end(&frame, body, Request::shape(key), form, ELEMENTS_MAX)?;
    let behind = frame.len() - end;
    if behind > if key == METADATA { BEHIND_METADATA_MAX } else { 0 } {
        return Err(Malformed { what: "bytes behind the message", at: end }.into());
    }
    let header = RequestHeader::decode(&mut frame.slice(..body), header_version(form))
        .map_err(|_| Malformed { what: "request header", at: 0 })?;
    head.client_id = header.client_id.map(|id| id.to_string());
    Ok((head, Request::decode(key, version, frame.slice(body..end))?))
}

/// Writes a request in one piece.
///
/// # Errors
/// [`Inexpressible`] when it holds something that this version of it cannot.
pub fn encode_request(head: &Envelope, request: &Request) -> Result<Bytes, Inexpressible> {
    encode_request_parts(head, request).map(weave::join)
}

/// Writes a request in parts, to be [framed](crate::frame::encode): record data stay where they are.
///
/// # Errors
/// As [`encode_request`].
pub fn encode_request_parts(head: &Envelope, request: &Request) -> Result<Vec<Bytes>, Inexpressible> {
    let (spoken, version) = (request.spoken(), head.version);
    let refused = |why: String| Inexpressible { api: spoken.name, version, why };
    if head.key != spoken.key || !spoken.has(version) {
        return Err(refused(format!("it is not version {version} of API {}", head.key)));
    }
    let form = Form::of(spoken, version);
    let mut bytes = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(head.key)
        .with_request_api_version(version)
        .with_correlation_id(head.correlation_id)
        .with_client_id(head.client_id.clone().map(StrBytes::from_string))
        .encode(&mut bytes, header_version(form))
        .map_err(|error| refused(error.to_string()))?;
    let body = bytes.len();
    let (request, data) = weave::take_records_of_request(request);
    request.encode(version, &mut bytes).map_err(refused)?;
    weave::weave(bytes.freeze(), body, Request::shape(head.key), form, data)
        .map_err(|error| refused(error.to_string()))
}

fn header_version(form: Form) -> i16 {
    if form.flexible { 2 } else { 1 }
}
