//! Requests and responses: Kafka's own messages, as far as we speak them.
//!
//! The messages' structs are those of the crate `kafka-protocol`. This module says which of them we speak and in
//! which versions ([`SPOKEN`]), puts heads and bodies together, and turns away what is no message before anything is
//! allocated for it. A dispatcher calls [`decode_request`] and [`encode_response`], a client [`encode_request`] and
//! [`decode_response`]; what stands between them and a connection is [`crate::frame`].
//!
//! What surprises: a generated decoder makes room for as many elements as an array claims, so each message is walked
//! by its `shape` first; ApiVersions has a response header of its own; and a message can be encoded in parts, so that
//! the record data in it are never copied.

#[cfg(test)]
mod maker;
mod request;
mod response;
mod shape;
mod shapes;
mod single;
mod spoken;
mod weave;
mod window;

use crate::ids::TopicId;

pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;

pub use request::{Envelope, RequestError, decode_request, encode_request, encode_request_parts};
pub use response::{correlation_id, decode_response, encode_response, encode_response_parts};
pub use spoken::{API_VERSIONS, Inexpressible, Request, Response, SPOKEN, Spoken, api_versions, spoken};
pub use window::{ask_window, asked_window, grant_window, granted_window};

/// A topic's id as messages hold it; [`uuid::Uuid::into_bytes`] leads back.
pub fn uuid(id: TopicId) -> uuid::Uuid {
    uuid::Uuid::from_bytes(id.0)
}
