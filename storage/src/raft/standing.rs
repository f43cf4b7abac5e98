//! What a checkpoint holds for Raft: who belongs to the group, and where earlier terms ended.
//!
//! ```text
//! standing:   format u8 = 1 · membership entry (there u8 · term u64 · index u64) · membership
//!             · terms n u32 · n × (term u64 · last index u64)
//! membership: format u8 = 1 · configs n u8 · n × (voters m u16 · m × broker u64) · brokers k u16 · k × broker u64
//! ```
//!
//! Integers are big-endian. A membership is also what a membership entry of the log holds. Two configs are a change
//! under way: both have to agree until the second alone is left.
//!
//! The terms are there because openraft wants to know at every start where each of them ended, and would look for it
//! in the log: one chunk read for every step of a search, for every term there ever was. The term of the last entry
//! applied is not among them (it ends there, for now), so that a standing changes seldom. Terms below the purge mark are
//! dropped.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EmptyNode;
use openraft::type_config::alias::StoredMembershipOf;
use tidemill_core::ids::{LogIndex, Term};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::types::{self, TypeConfig};
use crate::log::LogId;

/// openraft's membership.
pub type Membership = openraft::Membership<u64, EmptyNode>;
/// openraft's membership, with the entry it comes from.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;

const FORMAT: u8 = 1;

/// What a checkpoint holds for Raft.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// Who belongs to the group, by the last membership entry that was applied.
    pub membership: StoredMembership,
    /// The last entry of each term before that of the last entry applied, in order.
    pub ended: Vec<LogId>,
}

impl Standing {
    /// Entries up to this one need no longer be known.
    pub fn forget(&mut self, purged: LogId) {
        self.ended.retain(|last| last.index > purged.index);
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.u8(FORMAT);
        write_id(&mut w, self.membership.log_id().as_ref().map(types::log_id));
        write_membership(&mut w, self.membership.membership());
        w.u32(self.ended.len() as u32);
        self.ended.iter().for_each(|last| {
            w.u64(last.term.0).u64(last.index.0);
        });
        w.finish()
    }

    /// Reads it. No bytes at all are a group that was never formed.
    ///
    /// # Errors
    /// [`Malformed`] when these are not its bytes.
    pub fn decode(bytes: &Bytes) -> Result<Standing, Malformed> {
        if bytes.is_empty() {
            return Ok(Standing::default());
        }
        let mut r = Reader::new(bytes.clone());
        read_format(&mut r, "standing")?;
        let id = read_id(&mut r)?.map(types::raft_log_id);
        let membership = StoredMembership::new(id, read_membership(&mut r)?);
        let ended = (0..r.u32("terms")?).map(|_| {
            let term = Term(r.u64("term")?);
            Ok(LogId { term, index: LogIndex(r.u64("index")?) })
        });
        let ended = ended.collect::<Result<Vec<_>, Malformed>>()?;
        if !ended.is_sorted_by(|one, next| one.term < next.term && one.index < next.index) {
            return Err(r.malformed("order of terms"));
        }
        r.finish("standing")?;
        Ok(Standing { membership, ended })
    }
}

/// Writes a membership, as a membership entry holds it.
pub fn encode_membership(membership: &Membership) -> Bytes {
    let mut w = Writer::new();
    write_membership(&mut w, membership);
    w.finish()
}

/// Reads what [`encode_membership`] wrote.
///
/// # Errors
/// [`Malformed`] when these are not its bytes, or voters are named that are no members.
pub fn decode_membership(bytes: &Bytes) -> Result<Membership, Malformed> {
    let mut r = Reader::new(bytes.clone());
    let membership = read_membership(&mut r)?;
    r.finish("membership")?;
    Ok(membership)
}

fn write_membership(w: &mut Writer, membership: &Membership) {
    let configs = membership.get_joint_config();
    w.u8(FORMAT).u8(configs.len() as u8);
    for voters in configs {
        write_brokers(w, voters.iter().copied());
    }
    write_brokers(w, membership.nodes().map(|(broker, _)| *broker));
}

fn read_membership(r: &mut Reader) -> Result<Membership, Malformed> {
    read_format(r, "membership")?;
    let configs = (0..r.u8("configs")?).map(|_| read_brokers(r)).collect::<Result<Vec<_>, _>>()?;
    let nodes = read_brokers(r)?;
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    let nodes: BTreeMap<u64, EmptyNode> = nodes.into_iter().map(|broker| (broker, EmptyNode {})).collect();
    Membership::new(configs, nodes).map_err(|_| r.malformed("membership"))
}

fn write_brokers(w: &mut Writer, brokers: impl Iterator<Item = u64>) {
    let brokers: Vec<u64> = brokers.collect();
    w.u16(brokers.len() as u16);
    brokers.iter().for_each(|broker| {
        w.u64(*broker);
    });
}

fn read_brokers(r: &mut Reader) -> Result<BTreeSet<u64>, Malformed> {
    (0..r.u16("brokers")?).map(|_| r.u64("broker")).collect()
}

fn read_format(r: &mut Reader, what: &'static str) -> Result<(), Malformed> {
    match r.u8(what)? {
        FORMAT => Ok(()),
        _ => Err(r.malformed(what)),
    }
}

/// Writes an id that may be missing: `there u8 · term u64 · index u64`.
pub(super) fn write_id(w: &mut Writer, id: Option<LogId>) {
    w.u8(id.is_some().into());
    if let Some(id) = id {
        w.u64(id.term.0).u64(id.index.0);
    }
}

/// Reads what [`write_id`] wrote.
pub(super) fn read_id(r: &mut Reader) -> Result<Option<LogId>, Malformed> {
    match r.u8("whether there is an id")? {
        0 => Ok(None),
        1 => {
            let term = Term(r.u64("term")?);
            Ok(Some(LogId { term, index: LogIndex(r.u64("index")?) }))
        }
        _ => Err(r.malformed("whether there is an id")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: LogIndex(index) }
    }

    fn standing() -> Standing {
        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([3, 4])];
        let membership = Membership::new_with_defaults(configs, [5]);
        let membership = StoredMembership::new(Some(types::raft_log_id(id(2, 7))), membership);
        Standing { membership, ended: vec![id(1, 3), id(2, 9)] }
    }

    #[test]
    fn what_is_written_is_read() {
        for standing in [standing(), Standing::default()] {
            assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
        }
        assert_eq!(Standing::decode(&Bytes::new()), Ok(Standing::default()));
    }

    #[test]
    fn terms_below_the_purge_mark_are_forgotten() {
        let mut standing = standing();
        standing.forget(id(1, 3));
        assert_eq!(standing.ended, [id(2, 9)]);
        standing.forget(id(4, 40));
        assert_eq!(standing.ended, []);
    }

    #[test]
    fn voters_that_are_no_members_are_refused() {
        let mut w = Writer::new();
        w.u8(FORMAT).u8(1);
        write_brokers(&mut w, [1, 2].into_iter());
        write_brokers(&mut w, [1].into_iter());
        assert!(decode_membership(&w.finish()).is_err());
    }

    #[test]
    fn it_is_read_whole_or_not_at_all() {
        let whole = standing().encode();
        for length in 1..whole.len() {
            assert!(Standing::decode(&whole.slice(..length)).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_read_as_what_they_say(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            if let Ok(standing) = Standing::decode(&bytes.clone().into()) {
                prop_assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
            }
            if let Ok(membership) = decode_membership(&bytes.into()) {
                prop_assert_eq!(decode_membership(&encode_membership(&membership)), Ok(membership));
            }
        }
    }
}
