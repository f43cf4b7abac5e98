//! Encoding without copying record data: the message is encoded without them, and they are put between its parts.

use bytes::{BufMut, Bytes, BytesMut};

use super::shape::{self, Form, Shape};
use super::spoken::{Request, Response};
use crate::primitive::Malformed;

/// Record data shorter than this are copied into the message: a part of a frame has its price too.
const SHARED_FROM_BYTES: usize = 4 * 1024;

/// For each field of bytes in a message, in order: what was taken out of it, if anything was.
pub(super) type Taken = Vec<Option<Bytes>>;

/// A request with its longer record data taken out.
pub(super) fn take_records_of_request(request: &Request) -> (Request, Taken) {
    let mut request = request.clone();
    let mut taken = Taken::new();
    if let Request::Produce(produce) = &mut request {
        let partitions = produce.topic_data.iter_mut().flat_map(|topic| &mut topic.partition_data);
        taken.extend(partitions.map(|partition| take(&mut partition.records)));
    }
    (request, taken)
}

/// A response with its longer record data taken out.
pub(super) fn take_records_of_response(response: &Response) -> (Response, Taken) {
    let mut response = response.clone();
    let mut taken = Taken::new();
    if let Response::Fetch(fetch) = &mut response {
        let partitions = fetch.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        taken.extend(partitions.map(|partition| take(&mut partition.records)));
    }
    (response, taken)
}

/// Leaves an empty field in the place of what is taken, so that its place is found again.
fn take(records: &mut Option<Bytes>) -> Option<Bytes> {
    if records.as_ref()?.len() < SHARED_FROM_BYTES { None } else { records.replace(Bytes::new()) }
}

/// Puts back what was taken out of a message of this shape, which begins at `body` in `encoded`.
///
/// # Errors
/// [`Malformed`] when the message is not of this shape.
pub(super) fn weave(
    encoded: Bytes,
    body: usize,
    shape: Shape,
    form: Form,
    taken: Taken,
) -> Result<Vec<Bytes>, Malformed> {
    if taken.iter().all(Option::is_none) {
        return Ok(vec![encoded]);
    }
    let mut parts = Vec::new();
    let mut from = 0;
    let empty = if form.flexible { 1 } else { 4 };
    for (at, data) in shape::blobs(&encoded, body, shape, form)?.into_iter().zip(taken) {
        let Some(data) = data else { continue };
        let mut part = BytesMut::with_capacity(at - from + 5);
        part.put_slice(&encoded[from..at]);
        put_length(&mut part, data.len(), form.flexible);
        parts.extend([part.freeze(), data]);
        from = at + empty;
    }
    parts.push(encoded.slice(from..));
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

/// Parts as one piece.
pub(super) fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 { parts.remove(0) } else { Bytes::from(parts.concat()) }
}

/// The length of a field of bytes: four bytes, or as a varint one more than it is.
fn put_length(part: &mut BytesMut, length: usize, compact: bool) {
    let length = u32::try_from(length).ok().filter(|length| *length < i32::MAX as u32);
    let length = length.expect("record data of one partition are shorter than 2 GiB");
    if !compact {
        return part.put_u32(length);
    }
    let mut rest = length + 1;
    while rest >= 0x80 {
        part.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    part.put_u8(rest as u8);
}
