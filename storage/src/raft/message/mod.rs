//! What replicas of a group say to one another, byte by byte.
//!
//! ```text
//! ask:    version u8 = 1 · kind u8 · group u16 (0xffff: the catalog) · checksum u32 · body
//! answer: version u8 = 1 · kind u8                                   · checksum u32 · body
//! ```
//!
//! Integers are big-endian. The checksum is a CRC-32C of all but itself. The bodies are drawn in [`ask`] and [`answer`].
//! Nothing is allocated by a length or number that a message claims. Who gets a message that is none says
//! [`Answer::Malformed`](answer::Answer::Malformed), and nothing else happens.

pub mod answer;
pub mod ask;
mod parts;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use tidemill_core::ids::{GroupId, ShardId};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

const VERSION: u8 = 1;
const CATALOG: u16 = u16::MAX;
const CHECKSUM_BYTES: usize = 4;

/// The group that an ask is for.
///
/// # Errors
/// [`Malformed`] when it is no ask of a version known here.
pub fn addressee(message: &Bytes) -> Result<GroupId, Malformed> {
    let mut r = Reader::new(message.clone());
    begin(&mut r)?;
    read_group(&mut r)
}

/// What must hold of any bytes that come as a message, once their checksum does: see [`crate::log::hostile`].
#[doc(hidden)]
pub fn hostile(bytes: &[u8]) {
    let message = Bytes::copy_from_slice(bytes);
    let _ = (addressee(&message), ask::Ask::decode(&message), answer::Answer::decode(&message));
    for (head, is_ask) in [(4, true), (2, false)] {
        let mut sealed = bytes.to_vec();
        sealed.resize(sealed.len().max(head + CHECKSUM_BYTES), 0);
        sealed[0] = VERSION;
        let checksum = checksum(&sealed, head).to_be_bytes();
        sealed[head..head + CHECKSUM_BYTES].copy_from_slice(&checksum);
        let sealed = Bytes::from(sealed);
        if is_ask {
            let Ok((group, read)) = ask::Ask::decode(&sealed) else { continue };
            assert_eq!(addressee(&sealed), Ok(group));
            assert_eq!(ask::Ask::decode(&read.encode(group)), Ok((group, read.clone())));
            let _ = read.author();
        } else if let Ok(read) = answer::Answer::decode(&sealed) {
            assert_eq!(answer::Answer::decode(&read.encode()), Ok(read));
        }
    }
}

fn write_group(w: &mut Writer, group: GroupId) {
    w.u16(match group {
        GroupId::Catalog => CATALOG,
        GroupId::Shard(shard) => shard.0,
    });
}

fn read_group(r: &mut Reader) -> Result<GroupId, Malformed> {
    Ok(match r.u16("group")? {
        CATALOG => GroupId::Catalog,
        shard => GroupId::Shard(ShardId(shard)),
    })
}

/// Reads the version, and returns the kind.
fn begin(r: &mut Reader) -> Result<u8, Malformed> {
    match r.u8("version")? {
        VERSION => r.u8("kind"),
        _ => Err(Malformed { what: "version", at: 0 }),
    }
}

/// Leaves room for the checksum; [`seal`] fills it in.
fn leave_room(w: &mut Writer) -> usize {
    let at = w.len();
    w.u32(0);
    at
}

fn seal(mut w: Writer, at: usize) -> Bytes {
    let checksum = checksum(w.as_slice(), at);
    w.patch(at, &checksum.to_be_bytes());
    w.finish()
}

/// Checks the checksum that comes next.
fn check(r: &mut Reader, message: &Bytes) -> Result<(), Malformed> {
    let at = r.position();
    if r.u32("checksum")? == checksum(message, at) { Ok(()) } else { Err(Malformed { what: "checksum", at }) }
}

fn checksum(message: &[u8], at: usize) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&message[..at]), &message[at + CHECKSUM_BYTES..])
}
