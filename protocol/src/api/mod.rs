//! Requests and responses: Kafka's own messages, as far as we speak them.
//!
//! The messages' structs are those of the crate `kafka-protocol`; this module says which we speak in which
//! versions, puts headers and bodies together, and refuses what is no message before anything is allocated for it.
//! To speak another one: a line in [`SPOKEN`], a case in the macro below, and its shapes.
//!
//! Versions end below those that name topics by id in Produce and Fetch: every client of Kafka since 0.11 offers
//! older ones beside them.

mod shape;
mod window;

use bytes::{Buf, Bytes, BytesMut};
pub use kafka_protocol::messages;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
pub use kafka_protocol::protocol::StrBytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::error::ErrorCode;
use crate::primitive::Malformed;
pub use window::{ask_window, asked_window, grant_window, granted_window};

/// An API that we speak, and the versions of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// Kafka's number of the API.
    pub key: i16,
    /// Its name.
    pub name: &'static str,
    /// The oldest version.
    pub min: i16,
    /// The newest version.
    pub max: i16,
    /// The first version with tagged fields.
    pub flexible: i16,
}

/// A request that was read: who answers it needs the first three.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// An API that we do not speak.
    #[error("there is no API {key} here")]
    UnknownApi {
        /// Its number.
        key: i16,
    },
    /// A version that we do not speak; the client may go on with another.
    #[error("version {} of API {} is not spoken here", .0.version, .0.key)]
    UnsupportedVersion(Envelope),
    /// Not the bytes of a request.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

macro_rules! spoken {
    ($($key:literal $name:ident $min:literal..=$max:literal flexible $flexible:literal
        ($request:ident $request_shape:ident) ($response:ident $response_shape:ident))*) => {
        /// What we speak.
        pub const SPOKEN: &[Spoken] = &[$(Spoken {
            key: $key, name: stringify!($name), min: $min, max: $max, flexible: $flexible,
        }),*];

        /// A request.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Request { $($name(messages::$request)),* }

        /// A response.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Response { $($name(messages::$response)),* }

        impl Request {
            /// What we speak of its API.
            pub fn spoken(&self) -> &'static Spoken {
                let key = match self { $(Request::$name(_) => $key),* };
                spoken(key).expect("every request is spoken")
            }
        }

        fn decode_request_body(key: i16, version: i16, flexible: bool, mut body: Bytes) -> Result<Request, Malformed> {
            match key {
                $($key => {
                    shape::walk(&body, shape::$request_shape, version, flexible)?;
                    messages::$request::decode(&mut body, version).map(Request::$name).map_err(|_| garbled())
                })*
                _ => Err(garbled()),
            }
        }

        fn encode_request_body(request: &Request, version: i16, into: &mut BytesMut) -> Result<(), Malformed> {
            match request { $(Request::$name(request) => request.encode(into, version).map_err(|_| unwritable()),)* }
        }

        fn decode_response_body(key: i16, version: i16, flexible: bool, mut body: Bytes) -> Result<Response, Malformed> {
            match key {
                $($key => {
                    shape::walk(&body, shape::$response_shape, version, flexible)?;
                    messages::$response::decode(&mut body, version).map(Response::$name).map_err(|_| garbled())
                })*
                _ => Err(garbled()),
            }
        }

        fn encode_response_body(response: &Response, version: i16, into: &mut BytesMut) -> Result<(), Malformed> {
            match response { $(Response::$name(response) => response.encode(into, version).map_err(|_| unwritable()),)* }
        }
    };
}

spoken! {
    0 Produce 3..=11 flexible 9 (ProduceRequest PRODUCE_REQUEST) (ProduceResponse PRODUCE_RESPONSE)
    1 Fetch 4..=12 flexible 12 (FetchRequest FETCH_REQUEST) (FetchResponse FETCH_RESPONSE)
    2 ListOffsets 1..=7 flexible 6 (ListOffsetsRequest LIST_OFFSETS_REQUEST) (ListOffsetsResponse LIST_OFFSETS_RESPONSE)
    3 Metadata 0..=12 flexible 9 (MetadataRequest METADATA_REQUEST) (MetadataResponse METADATA_RESPONSE)
    18 ApiVersions 0..=3 flexible 3 (ApiVersionsRequest API_VERSIONS_REQUEST) (ApiVersionsResponse API_VERSIONS_RESPONSE)
    19 CreateTopics 2..=7 flexible 5 (CreateTopicsRequest CREATE_TOPICS_REQUEST) (CreateTopicsResponse CREATE_TOPICS_RESPONSE)
    22 InitProducerId 0..=4 flexible 2 (InitProducerIdRequest INIT_PRODUCER_ID_REQUEST) (InitProducerIdResponse INIT_PRODUCER_ID_RESPONSE)
}

/// The number of ApiVersions, which is answered in any version.
pub const API_VERSIONS: i16 = 18;

/// What we speak of an API.
pub fn spoken(key: i16) -> Option<&'static Spoken> {
    SPOKEN.iter().find(|spoken| spoken.key == key)
}

fn garbled() -> Malformed {
    Malformed { what: "message", at: 0 }
}

fn unwritable() -> Malformed {
    Malformed { what: "field that this version cannot hold", at: 0 }
}

/// Reads a request out of a frame.
///
/// # Errors
/// [`RequestError`]; for an unsupported version it holds what an answer needs.
pub fn decode_request(frame: Bytes) -> Result<(Envelope, Request), RequestError> {
    let head = frame.get(..8).ok_or(Malformed { what: "request header", at: 0 })?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let correlation_id = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let spoken = spoken(key).ok_or(RequestError::UnknownApi { key })?;
    let mut envelope = Envelope { key, version, correlation_id, client_id: None };
    if !(spoken.min..=spoken.max).contains(&version) {
        return Err(RequestError::UnsupportedVersion(envelope));
    }
    let flexible = version >= spoken.flexible;
    let header_version = if flexible { 2 } else { 1 };
    let mut rest = frame;
    shape::walk_header(&rest, flexible)?;
    let header = RequestHeader::decode(&mut rest, header_version).map_err(|_| garbled())?;
    envelope.client_id = header.client_id.map(|id| id.to_string());
    Ok((envelope, decode_request_body(key, version, flexible, rest)?))
}

/// Writes a response, ready to be framed.
///
/// # Errors
/// [`Malformed`] when it holds something that this version of it cannot.
pub fn encode_response(
    key: i16,
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Bytes, Malformed> {
    let flexible = spoken(key).is_some_and(|spoken| version >= spoken.flexible);
    // ApiVersions keeps the old header in every version, so that any client can read it.
    let header_version = if flexible && key != API_VERSIONS { 1 } else { 0 };
    let mut bytes = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut bytes, header_version).map_err(|_| unwritable())?;
    encode_response_body(response, version, &mut bytes)?;
    Ok(bytes.freeze())
}

/// Writes a request, ready to be framed.
///
/// # Errors
/// [`Malformed`] when it holds something that this version of it cannot.
pub fn encode_request(envelope: &Envelope, request: &Request) -> Result<Bytes, Malformed> {
    let spoken = request.spoken();
    let header_version = if envelope.version >= spoken.flexible { 2 } else { 1 };
    let mut bytes = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(spoken.key)
        .with_request_api_version(envelope.version)
        .with_correlation_id(envelope.correlation_id)
        .with_client_id(envelope.client_id.clone().map(StrBytes::from_string))
        .encode(&mut bytes, header_version)
        .map_err(|_| unwritable())?;
    encode_request_body(request, envelope.version, &mut bytes)?;
    Ok(bytes.freeze())
}

/// The correlation id that a response's frame begins with.
///
/// # Errors
/// [`Malformed`] when it is shorter than that.
pub fn correlation_id(frame: &Bytes) -> Result<i32, Malformed> {
    frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id)).ok_or_else(garbled)
}

/// Reads a response out of a frame.
///
/// # Errors
/// [`Malformed`] when it is none to this request.
pub fn decode_response(key: i16, version: i16, frame: Bytes) -> Result<Response, Malformed> {
    let flexible = spoken(key).is_some_and(|spoken| version >= spoken.flexible);
    let mut rest = frame;
    correlation_id(&rest)?;
    rest.advance(4);
    if flexible && key != API_VERSIONS {
        let tags = shape::tags_bytes(&rest)?;
        rest.advance(tags);
    }
    decode_response_body(key, version, flexible, rest)
}

/// The error code of a message's field.
pub fn error_code(code: i16) -> ErrorCode {
    ErrorCode(code)
}

const _: () = assert!(ApiKey::ApiVersions as i16 == API_VERSIONS, "the number is Kafka's");
