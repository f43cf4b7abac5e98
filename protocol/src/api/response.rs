//! Responses: written by a dispatcher, read by a client.
//!
//! A dispatcher answers as the newest version does; what an older one has no field for is left out here.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::BrokerId;

use super::shape::{self, Form};
use super::single;
use super::spoken::{API_VERSIONS, Inexpressible, Response, Spoken, spoken};
use super::weave;
use crate::primitive::Malformed;

/// Bytes of a response before its head's tagged fields.
const CORRELATION_ID_BYTES: usize = 4;

/// Writes a response to a request of this API and version, in one piece.
///
/// # Errors
/// [`Inexpressible`] when it holds something that this version of it cannot, or is none to such a request.
pub fn encode_response(
    key: i16,
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Bytes, Inexpressible> {
    encode_response_parts(key, version, correlation_id, response).map(weave::join)
}

/// Writes a response in parts, to be [framed](crate::frame::encode): record data stay where they are.
///
/// # Errors
/// As [`encode_response`].
pub fn encode_response_parts(
    key: i16,
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<Vec<Bytes>, Inexpressible> {
    let spoken = response.spoken();
    let refused = |why: String| Inexpressible { api: spoken.name, version, why };
    if key != spoken.key || !spoken.has(version) {
        return Err(refused(format!("it is not version {version} of API {key}")));
    }
    let mut bytes = BytesMut::new();
    bytes.put_i32(correlation_id);
    if head_has_tags(spoken, version) {
        bytes.put_u8(0);
    }
    let body = bytes.len();
    let (mut response, data) = weave::take_records_of_response(response);
    leave_out(&mut response, version);
    response.encode(version, &mut bytes).map_err(refused)?;
    weave::weave(bytes.freeze(), body, Response::shape(key), Form::of(spoken, version), data)
        .map_err(|error| refused(error.to_string()))
}

/// The correlation id that a response's frame begins with.
///
/// # Errors
/// [`Malformed`] when it is shorter than that.
pub fn correlation_id(frame: &[u8]) -> Result<i32, Malformed> {
    let id = frame.first_chunk().ok_or(Malformed { what: "correlation id", at: 0 })?;
    Ok(i32::from_be_bytes(*id))
}

/// Reads a response out of a frame. Record data share the frame's memory.
///
/// # Errors
/// [`Malformed`] when it is none to a request of this API and version.
pub fn decode_response(key: i16, version: i16, frame: Bytes) -> Result<Response, Malformed> {
    correlation_id(&frame)?;
    let spoken = spoken(key).filter(|spoken| spoken.has(version));
    let spoken = spoken.ok_or(Malformed { what: "response to what was not asked", at: 0 })?;
    let mut body = CORRELATION_ID_BYTES;
    if head_has_tags(spoken, version) {
        body = shape::walk_tags(&frame, body)?;
    }
    // A broker may answer with as much as a frame holds: there is no bound on elements here.
    shape::walk(&frame, body, Response::shape(key), Form::of(spoken, version), usize::MAX)?;
    Response::decode(key, version, frame.slice(body..))
}

/// Sets back what came later than `version`. (Most such fields the encoder passes over by itself; for these it would
/// refuse the whole.)
fn leave_out(response: &mut Response, version: i16) {
    /// Kafka's "not asked for".
    const OPERATIONS_UNKNOWN: i32 = i32::MIN;
    match response {
        Response::Fetch(fetch) => {
            if version < 7 {
                fetch.session_id = 0;
            }
            let partitions = fetch.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|_| version < 11).for_each(|it| it.preferred_read_replica = BrokerId(-1));
        }
        Response::ListOffsets(offsets) => {
            let partitions = offsets.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.filter(|_| version < 4).for_each(|it| it.leader_epoch = -1);
        }
        Response::Metadata(metadata) => {
            if !(8..=10).contains(&version) {
                metadata.cluster_authorized_operations = OPERATIONS_UNKNOWN;
            }
            let topics = metadata.topics.iter_mut().filter(|_| version < 8);
            topics.for_each(|it| it.topic_authorized_operations = OPERATIONS_UNKNOWN);
        }
        Response::DeleteTopics(deleted) => {
            for topic in &mut deleted.responses {
                topic.topic_id = if version < 6 { uuid::Uuid::nil() } else { topic.topic_id };
                topic.error_message = topic.error_message.take().filter(|_| version >= 5);
            }
        }
        Response::OffsetFetch(offsets) => single::of_one_group(offsets, version),
        Response::FindCoordinator(found) => single::of_one_key(found, version),
        Response::Produce(_)
        | Response::OffsetCommit(_)
        | Response::ApiVersions(_)
        | Response::CreateTopics(_)
        | Response::DeleteRecords(_)
        | Response::DescribeConfigs(_)
        | Response::CreatePartitions(_)
        | Response::IncrementalAlterConfigs(_)
        | Response::InitProducerId(_) => {}
    }
}

/// ApiVersions keeps the old head in every version, so that any client can read it.
fn head_has_tags(spoken: &Spoken, version: i16) -> bool {
    spoken.is_flexible(version) && spoken.key != API_VERSIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SPOKEN;
    use crate::api::maker::make;

    #[test]
    fn an_older_version_is_answered_with_less() {
        for (choices, spoken) in (0..100u8).flat_map(|seed| SPOKEN.iter().map(move |spoken| (seed, spoken))) {
            let choices: Vec<u8> =
                (0..50u8).map(|n| n.wrapping_mul(37) ^ choices.wrapping_mul(101)).collect();
            for from in spoken.min..=spoken.max {
                let told = make(Response::shape(spoken.key), Form::of(spoken, from), &choices);
                let response = Response::decode(spoken.key, from, told).unwrap();
                for version in spoken.min..=spoken.max {
                    let frame = encode_response(spoken.key, version, 5, &response).unwrap();
                    let read = decode_response(spoken.key, version, frame).unwrap();
                    if version == from {
                        assert_eq!(read, response, "{} {version}", spoken.name);
                    }
                }
            }
        }
    }

    #[test]
    fn an_answer_to_something_else_is_refused() {
        let response = Response::ListOffsets(Default::default());
        assert!(encode_response(3, 1, 5, &response).is_err());
        assert!(encode_response(2, 0, 5, &response).is_err());
        assert!(decode_response(2, 0, Bytes::from_static(&[0; 20])).is_err());
        assert!(decode_response(1_000, 0, Bytes::from_static(&[0; 20])).is_err());
    }
}
