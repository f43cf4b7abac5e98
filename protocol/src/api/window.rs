//! How many batches a producer may have in flight: Kafka's clients five, ours more, by agreement.
//!
//! Ours asks for a window in a tagged field of InitProducerId, and the broker grants one in a tagged field of the
//! response. Kafka's brokers and clients pass over tags that they do not know.

use bytes::Bytes;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// The tag, far above those that Kafka gives out from 0 on.
const TAG: i32 = 7_411;

/// Asks for a window of so many batches.
pub fn ask_window(request: &mut InitProducerIdRequest, batches: u32) {
    request.unknown_tagged_fields.insert(TAG, Bytes::copy_from_slice(&batches.to_be_bytes()));
}

/// The window that a request asks for.
pub fn asked_window(request: &InitProducerIdRequest) -> Option<u32> {
    read(request.unknown_tagged_fields.get(&TAG))
}

/// Grants a window of so many batches.
pub fn grant_window(response: &mut InitProducerIdResponse, batches: u32) {
    response.unknown_tagged_fields.insert(TAG, Bytes::copy_from_slice(&batches.to_be_bytes()));
}

/// The window that a response grants.
pub fn granted_window(response: &InitProducerIdResponse) -> Option<u32> {
    read(response.unknown_tagged_fields.get(&TAG))
}

fn read(field: Option<&Bytes>) -> Option<u32> {
    field.and_then(|bytes| <[u8; 4]>::try_from(&bytes[..]).ok()).map(u32::from_be_bytes)
}
