//! What we speak: the APIs, their versions, and one enum each of requests and responses.
//!
//! To speak another: a line in the table below, and the shapes of its two messages in `shapes`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, ApiKey, ApiVersionsResponse, api_versions_response::ApiVersion};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::shape::{Form, Shape};
use super::shapes;
use crate::primitive::Malformed;

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

impl Spoken {
    /// Whether we speak this version.
    pub fn has(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The newest version that is spoken by us and by someone who speaks from `min` to `max`.
    pub fn agree(&self, min: i16, max: i16) -> Option<i16> {
        let newest = self.max.min(max);
        (newest >= self.min.max(min)).then_some(newest)
    }

    /// The oldest version that we say we speak. For Produce that is 0, as with Kafka's own brokers, which do not
    /// speak it either: librdkafka (2.11 and before) takes a broker without it for one that cannot read compressed
    /// batches and sends them plain. It picks the newest version for the request itself.
    pub fn announced_min(&self) -> i16 {
        if self.key == ApiKey::Produce as i16 { 0 } else { self.min }
    }

    pub(super) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A message that a version of its API cannot express, such as a field set that came later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{api} version {version} cannot say this: {why}")]
pub struct Inexpressible {
    /// The API.
    pub api: &'static str,
    /// The version.
    pub version: i16,
    /// What cannot be said.
    pub why: String,
}

macro_rules! speak {
    ($($key:literal $name:ident $min:literal..=$max:literal flexible $flexible:literal
        ($request:ident $request_shape:ident) ($response:ident $response_shape:ident))*) => {
        /// What we speak, by Kafka's numbers.
        pub const SPOKEN: &[Spoken] = &[$(Spoken {
            key: $key, name: stringify!($name), min: $min, max: $max, flexible: $flexible,
        }),*];

        /// A request, of the API that its case names.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Request { $($name(messages::$request)),* }

        /// A response, of the API that its case names.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Response { $($name(messages::$response)),* }

        impl Request {
            pub(super) fn key(&self) -> i16 {
                match self { $(Request::$name(_) => $key),* }
            }

            pub(super) fn shape(key: i16) -> Shape {
                match key { $($key => shapes::$request_shape,)* _ => &[] }
            }

            pub(super) fn decode(key: i16, version: i16, body: Bytes) -> Result<Request, Malformed> {
                match key { $($key => decode(body, version).map(Request::$name),)* _ => Err(garbled()) }
            }

            pub(super) fn encode(&self, version: i16, into: &mut BytesMut) -> Result<(), String> {
                match self { $(Request::$name(request) => encode(request, version, into)),* }
            }
        }

        impl Response {
            pub(super) fn key(&self) -> i16 {
                match self { $(Response::$name(_) => $key),* }
            }

            pub(super) fn shape(key: i16) -> Shape {
                match key { $($key => shapes::$response_shape,)* _ => &[] }
            }

            pub(super) fn decode(key: i16, version: i16, body: Bytes) -> Result<Response, Malformed> {
                match key { $($key => decode(body, version).map(Response::$name),)* _ => Err(garbled()) }
            }

            pub(super) fn encode(&self, version: i16, into: &mut BytesMut) -> Result<(), String> {
                match self { $(Response::$name(response) => encode(response, version, into)),* }
            }
        }
    };
}

// Ranges end where a version asks for what we do not offer, or brings nothing:
// - Produce begins with batches of magic 2, and ends before topics are named by id (13).
// - Fetch likewise: 4, and before 13. Clients that know topic ids fall back to names.
// - ListOffsets 7 brings the timestamp -3, "the record of the highest timestamp"; later ones ask about tiers of storage.
// - Metadata 10 and later may name topics by id; 13 only adds an error code for the whole.
// - OffsetCommit and OffsetFetch begin where offsets ceased to lie in ZooKeeper, and end before topics are named by id (10).
// - FindCoordinator 5 and later belong to transactions and share groups.
// - ApiVersions 4 differs from 3 in what a feature's range may be; a client that asks in 4 asks again in 3.
// - InitProducerId 5 and later belong to transactions.
speak! {
    0 Produce 3..=12 flexible 9 (ProduceRequest PRODUCE_REQUEST) (ProduceResponse PRODUCE_RESPONSE)
    1 Fetch 4..=12 flexible 12 (FetchRequest FETCH_REQUEST) (FetchResponse FETCH_RESPONSE)
    2 ListOffsets 1..=7 flexible 6 (ListOffsetsRequest LIST_OFFSETS_REQUEST) (ListOffsetsResponse LIST_OFFSETS_RESPONSE)
    3 Metadata 0..=12 flexible 9 (MetadataRequest METADATA_REQUEST) (MetadataResponse METADATA_RESPONSE)
    8 OffsetCommit 2..=9 flexible 8 (OffsetCommitRequest OFFSET_COMMIT_REQUEST) (OffsetCommitResponse OFFSET_COMMIT_RESPONSE)
    9 OffsetFetch 1..=9 flexible 6 (OffsetFetchRequest OFFSET_FETCH_REQUEST) (OffsetFetchResponse OFFSET_FETCH_RESPONSE)
    10 FindCoordinator 0..=4 flexible 3 (FindCoordinatorRequest FIND_COORDINATOR_REQUEST) (FindCoordinatorResponse FIND_COORDINATOR_RESPONSE)
    18 ApiVersions 0..=3 flexible 3 (ApiVersionsRequest API_VERSIONS_REQUEST) (ApiVersionsResponse API_VERSIONS_RESPONSE)
    19 CreateTopics 2..=7 flexible 5 (CreateTopicsRequest CREATE_TOPICS_REQUEST) (CreateTopicsResponse CREATE_TOPICS_RESPONSE)
    20 DeleteTopics 1..=6 flexible 4 (DeleteTopicsRequest DELETE_TOPICS_REQUEST) (DeleteTopicsResponse DELETE_TOPICS_RESPONSE)
    21 DeleteRecords 0..=2 flexible 2 (DeleteRecordsRequest DELETE_RECORDS_REQUEST) (DeleteRecordsResponse DELETE_RECORDS_RESPONSE)
    22 InitProducerId 0..=4 flexible 2 (InitProducerIdRequest INIT_PRODUCER_ID_REQUEST) (InitProducerIdResponse INIT_PRODUCER_ID_RESPONSE)
    32 DescribeConfigs 1..=4 flexible 4 (DescribeConfigsRequest DESCRIBE_CONFIGS_REQUEST) (DescribeConfigsResponse DESCRIBE_CONFIGS_RESPONSE)
    37 CreatePartitions 0..=3 flexible 2 (CreatePartitionsRequest CREATE_PARTITIONS_REQUEST) (CreatePartitionsResponse CREATE_PARTITIONS_RESPONSE)
    44 IncrementalAlterConfigs 0..=1 flexible 1 (IncrementalAlterConfigsRequest INCREMENTAL_ALTER_CONFIGS_REQUEST) (IncrementalAlterConfigsResponse INCREMENTAL_ALTER_CONFIGS_RESPONSE)
}

/// The number of ApiVersions, which is answered whatever its version: in version 0 when the request's is not spoken.
pub const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// What we speak of an API.
pub fn spoken(key: i16) -> Option<&'static Spoken> {
    SPOKEN.iter().find(|spoken| spoken.key == key)
}

/// What we answer to whoever asks what we speak.
pub fn api_versions() -> ApiVersionsResponse {
    let announce = |spoken: &Spoken| {
        ApiVersion::default()
            .with_api_key(spoken.key)
            .with_min_version(spoken.announced_min())
            .with_max_version(spoken.max)
    };
    ApiVersionsResponse::default().with_api_keys(SPOKEN.iter().map(announce).collect())
}

impl Request {
    /// What we speak of its API.
    pub fn spoken(&self) -> &'static Spoken {
        spoken(self.key()).expect("every request is spoken")
    }
}

impl Response {
    /// What we speak of its API.
    pub fn spoken(&self) -> &'static Spoken {
        spoken(self.key()).expect("every response is spoken")
    }
}

impl Form {
    /// How a version of an API is laid out.
    pub(super) fn of(spoken: &Spoken, version: i16) -> Form {
        Form { version, flexible: spoken.is_flexible(version) }
    }
}

/// What a walk lets pass and the decoder does not: null where it may not be.
fn garbled() -> Malformed {
    Malformed { what: "null where the message has none", at: 0 }
}

fn decode<M: Decodable>(mut body: Bytes, version: i16) -> Result<M, Malformed> {
    let message = M::decode(&mut body, version).map_err(|_| garbled())?;
    if body.is_empty() { Ok(message) } else { Err(Malformed { what: "bytes behind the message", at: 0 }) }
}

fn encode<M: Encodable>(message: &M, version: i16, into: &mut BytesMut) -> Result<(), String> {
    message.encode(into, version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_messages() {
        for spoken in SPOKEN {
            let key = ApiKey::try_from(spoken.key).unwrap();
            assert_eq!(format!("{key:?}"), spoken.name);
            for version in spoken.min..=spoken.max {
                let flexible = spoken.is_flexible(version);
                assert_eq!(key.request_header_version(version) == 2, flexible, "{key:?} {version}");
                let newer_head = flexible && spoken.key != API_VERSIONS;
                assert_eq!(key.response_header_version(version) == 1, newer_head, "{key:?} {version}");
            }
            let valid = key.valid_versions();
            assert!(valid.min <= spoken.min && spoken.max <= valid.max, "{key:?} {valid:?}");
        }
    }

    #[test]
    fn versions_are_agreed_upon() {
        let produce = spoken(0).unwrap();
        assert_eq!(produce.agree(0, 7), Some(7), "librdkafka");
        assert_eq!(produce.agree(3, 13), Some(12), "Java");
        assert_eq!(produce.agree(0, 2), None);
        assert_eq!(produce.agree(13, 14), None);
    }

    #[test]
    fn librdkafka_is_told_what_it_wants_to_hear() {
        let announced = api_versions();
        let produce = announced.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 12));
        assert!(!spoken(0).unwrap().has(2));
        // It writes LZ4 for those alone who speak version 0 of this, for that is as old as LZ4 in brokers.
        assert!(announced.api_keys.iter().any(|api| api.api_key == 10 && api.min_version == 0));
        // And zstd for those who speak these.
        assert!(spoken(0).unwrap().has(7) && spoken(1).unwrap().has(10));
    }
}
