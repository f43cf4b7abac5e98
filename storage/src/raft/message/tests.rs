//! Messages are read as they were written; everything else is refused, and nobody panics.

use bytes::Bytes;
use proptest::prelude::*;
use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::ids::{BrokerId, GroupId, LogIndex, ShardId, Term};
use tidemill_core::seams::Timestamp;

use super::answer::Answer;
use super::ask::{Ask, Part};
use super::{addressee, checksum};
use crate::log::{EncodedEntry, LogEntry, LogId, Payload, Vote};

fn ids() -> impl Strategy<Value = LogId> {
    (0..9u64, any::<u32>())
        .prop_map(|(term, index)| LogId { term: Term(term), index: LogIndex(index.into()) })
}

fn votes() -> impl Strategy<Value = Vote> {
    (10..20u64, proptest::option::of(any::<u64>()), any::<bool>()).prop_map(|(term, node, committed)| Vote {
        term: Term(term),
        node: node.map(BrokerId),
        committed,
    })
}

fn blobs() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn payloads() -> impl Strategy<Value = Payload> {
    let entry = |meta| {
        let entry = Entry { kind: EntryKind::Control, append_time: Timestamp(7), meta, batches: Vec::new() };
        Payload::Entry(EncodedEntry::new(entry))
    };
    prop_oneof![Just(Payload::Blank), blobs().prop_map(entry), blobs().prop_map(Payload::Membership)]
}

/// Entries that follow this one.
fn entries_behind(previous: Option<LogId>) -> impl Strategy<Value = Vec<LogEntry>> {
    proptest::collection::vec(payloads(), 0..5).prop_map(move |payloads| {
        let first = previous.map_or(0, |previous| previous.index.0 + 1);
        let term = previous.map_or(Term(0), |previous| previous.term);
        let id = |index| LogId { term, index: LogIndex(index) };
        (first..).zip(payloads).map(|(index, payload)| LogEntry { id: id(index), payload }).collect()
    })
}

fn rows() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
    proptest::collection::btree_map(blobs(), blobs(), 0..5).prop_map(|rows| rows.into_iter().collect())
}

fn asks() -> impl Strategy<Value = Ask> {
    let append = (votes(), proptest::option::of(ids()), proptest::option::of(ids())).prop_flat_map(
        |(vote, previous, committed)| {
            let vote = Vote { committed: true, ..vote };
            entries_behind(previous).prop_map(move |entries| Ask::Append {
                vote,
                previous,
                committed,
                entries,
            })
        },
    );
    let vote = (votes(), proptest::option::of(ids()), any::<bool>(), any::<bool>())
        .prop_map(|(vote, last, transfer, pre)| Ask::Vote { vote, last, transfer, pre });
    let transfer = (votes(), any::<u64>(), proptest::option::of(ids()))
        .prop_map(|(vote, to, last)| Ask::Transfer { vote, to: BrokerId(to), last });
    let begin = (votes(), ids(), blobs(), any::<bool>()).prop_map(|(vote, snapshot, standing, afresh)| {
        Ask::Snapshot(Part::Begin { vote, snapshot, standing, afresh })
    });
    let records = (ids(), ids().prop_flat_map(|id| entries_behind(Some(id))))
        .prop_map(|(snapshot, entries)| Ask::Snapshot(Part::Records { snapshot, entries }));
    let rows = (ids(), rows())
        .prop_map(|(snapshot, rows)| Ask::Snapshot(Part::Rows { snapshot, after: None, rows }));
    let end = (votes(), ids(), proptest::option::of(any::<u64>())).prop_map(|(vote, snapshot, first)| {
        Ask::Snapshot(Part::End { vote, snapshot, first: first.map(LogIndex) })
    });
    prop_oneof![append, vote, transfer, begin, records, rows, end]
}

fn answers() -> impl Strategy<Value = Answer> {
    let voted = (votes(), any::<bool>(), proptest::option::of(ids()))
        .prop_map(|(vote, granted, last)| Answer::Voted { vote, granted, last });
    let have = (proptest::option::of(ids()), proptest::option::of(blobs())).prop_map(|(last, after)| {
        Answer::Have { records: last.map(|last| (LogIndex(last.index.0 / 2), last)), after }
    });
    prop_oneof![
        proptest::option::of(ids()).prop_map(Answer::Appended),
        votes().prop_map(Answer::HigherVote),
        votes().prop_map(Answer::Installed),
        "[a-zé ]{0,30}".prop_map(Answer::Refused),
        Just(Answer::Conflict),
        Just(Answer::Done),
        Just(Answer::Malformed),
        voted,
        have,
    ]
}

fn groups() -> impl Strategy<Value = GroupId> {
    prop_oneof![Just(GroupId::Catalog), (0..u16::MAX).prop_map(|shard| GroupId::Shard(ShardId(shard)))]
}

/// Makes the checksum right again: what is behind it must be refused on its own merits.
fn resealed(mut bytes: Vec<u8>, at: usize) -> Bytes {
    if bytes.len() >= at + 4 {
        let right = checksum(&bytes, at).to_be_bytes();
        bytes[at..at + 4].copy_from_slice(&right);
    }
    bytes.into()
}

proptest! {
    #[test]
    fn asks_are_read_as_written(ask in asks(), group in groups()) {
        let message = ask.encode(group);
        prop_assert_eq!(addressee(&message), Ok(group));
        prop_assert_eq!(Ask::decode(&message), Ok((group, ask)));
    }

    #[test]
    fn answers_are_read_as_written(answer in answers()) {
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn a_flipped_bit_is_noticed(ask in asks(), answer in answers(), bit in any::<proptest::sample::Index>()) {
        let flipped = |message: Bytes| {
            let mut bytes = message.to_vec();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Bytes::from(bytes)
        };
        prop_assert!(Ask::decode(&flipped(ask.encode(GroupId::Catalog))).is_err());
        prop_assert!(Answer::decode(&flipped(answer.encode())).is_err());
    }

    #[test]
    fn what_is_cut_short_is_refused(ask in asks(), answer in answers(), cut in any::<proptest::sample::Index>()) {
        let ask = ask.encode(GroupId::Catalog);
        prop_assert!(Ask::decode(&resealed(ask[..cut.index(ask.len())].to_vec(), 4)).is_err());
        let answer = answer.encode();
        prop_assert!(Answer::decode(&resealed(answer[..cut.index(answer.len())].to_vec(), 2)).is_err());
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_as_what_they_say(kind in 0..12u8, body in blobs()) {
        let ask = [&[1, kind, 0, 3, 0, 0, 0, 0], &body[..]].concat();
        if let Ok((group, ask)) = Ask::decode(&resealed(ask, 4)) {
            prop_assert_eq!(Ask::decode(&ask.encode(group)), Ok((group, ask)));
        }
        let answer = [&[1, kind, 0, 0, 0, 0], &body[..]].concat();
        if let Ok(answer) = Answer::decode(&resealed(answer, 2)) {
            prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let id = |term, index| LogId { term: Term(term), index: LogIndex(index) };
    let blank = |id| LogEntry { id, payload: Payload::Blank };
    let decode = |term, previous, ids: &[LogId]| {
        let vote = Vote { term: Term(term), node: Some(BrokerId(1)), committed: true };
        let entries = ids.iter().copied().map(blank).collect();
        Ask::decode(&Ask::Append { vote, previous, committed: None, entries }.encode(GroupId::Catalog))
    };
    assert!(decode(3, Some(id(2, 7)), &[id(2, 8), id(3, 9)]).is_ok());
    assert!(decode(3, None, &[id(1, 0)]).is_ok());
    assert!(decode(3, Some(id(2, 7)), &[id(2, 9)]).is_err(), "a gap behind the entry before");
    assert!(decode(3, Some(id(2, 7)), &[id(2, 8), id(2, 8)]).is_err(), "twice the same");
    assert!(decode(3, Some(id(2, 7)), &[id(1, 8)]).is_err(), "a term that goes back");
    assert!(decode(3, None, &[id(1, 1)]).is_err(), "nothing before it, and yet not the first");
    assert!(decode(3, Some(id(2, 7)), &[id(4, 8)]).is_err(), "of a term after the leader's");
    assert!(decode(3, Some(id(4, 7)), &[]).is_err(), "behind an entry after the leader's term");
    assert!(decode(3, Some(id(2, u64::MAX)), &[id(2, 0)]).is_err(), "behind the end of all logs");
}

#[test]
fn a_claimed_number_allocates_nothing() {
    let mut bytes = Ask::Snapshot(Part::Records {
        snapshot: LogId { term: Term(1), index: LogIndex(1) },
        entries: Vec::new(),
    })
    .encode(GroupId::Catalog)
    .to_vec();
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(Ask::decode(&resealed(bytes, 4)).is_err());
}
