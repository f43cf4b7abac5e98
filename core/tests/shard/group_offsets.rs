//! What consumers commit is kept beside the partition of which it speaks.

use tidemill_core::rejection::Rejection;
use tidemill_core::rows::GroupOffsetRow;
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::group_offsets::{self, NewOffset, Verdict};
use tidemill_core::tables::{Key, Tables};
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::mill::{Mill, ORDERS, at};

fn new(at: TopicPartition, offset: u64, metadata: &str) -> NewOffset {
    NewOffset { at, offset: Offset(offset), leader_epoch: 3, metadata: metadata.to_owned() }
}

fn commit(mill: &mut Mill, group: &str, offsets: &[NewOffset]) -> Vec<Verdict> {
    let (verdicts, entry) = mill.decide(|deciding| group_offsets::decide(deciding, group, offsets)).unwrap();
    entry.into_iter().for_each(|entry| mill.propose(entry));
    verdicts
}

fn committed(mill: &Mill, at: TopicPartition, group: &str) -> Option<u64> {
    group_offsets::committed(&mill.applied, at, group).unwrap().map(|row| row.offset.0)
}

#[test]
fn the_last_commit_counts_and_each_group_has_its_own() {
    let mut mill = Mill::holding(&[ORDERS, at(1, 1)]);
    assert_eq!(commit(&mut mill, "mail", &[new(ORDERS, 9, "nine"), new(at(1, 1), 4, "")]), [Ok(()), Ok(())]);
    assert_eq!(committed(&mill, ORDERS, "mail"), None, "nothing is committed yet");
    mill.commit();
    assert_eq!((committed(&mill, ORDERS, "mail"), committed(&mill, at(1, 1), "mail")), (Some(9), Some(4)));
    assert_eq!(committed(&mill, ORDERS, "mai"), None);

    // Back, as somebody does who wants to read something again.
    mill.now = Timestamp(2_000);
    commit(&mut mill, "mail", &[new(ORDERS, 2, "two")]);
    commit(&mut mill, "mailer", &[new(ORDERS, 7, "")]);
    mill.commit();
    let expected = GroupOffsetRow {
        offset: Offset(2),
        leader_epoch: 3,
        append_time: Timestamp(2_000),
        metadata: "two".to_owned(),
    };
    assert_eq!(group_offsets::committed(&mill.applied, ORDERS, "mail"), Ok(Some(expected)));
    assert_eq!(committed(&mill, ORDERS, "mailer"), Some(7));
}

#[test]
fn what_is_refused_leaves_the_others_be() {
    let mut mill = Mill::holding(&[ORDERS]);
    let long = "x".repeat(4_097);
    let offsets = [new(at(9, 0), 1, ""), new(ORDERS, 5, ""), new(ORDERS, 6, &long)];
    let verdicts = commit(&mut mill, "mail", &offsets);
    let too_long = Rejection::OffsetMetadata { bytes: 4_097, limit: 4_096 };
    assert_eq!(verdicts, [Err(Rejection::NoPartition(at(9, 0))), Ok(()), Err(too_long)]);
    mill.commit();
    assert_eq!(committed(&mill, ORDERS, "mail"), Some(5));

    let entries = mill.log.len();
    assert!(commit(&mut mill, "mail", &offsets[..1])[0].is_err());
    mill.commit();
    assert_eq!(mill.log.len(), entries, "nothing to keep, no entry");
}

#[test]
fn all_of_it_is_read_in_pages() {
    let mut mill = Mill::holding(&[ORDERS, at(1, 1), at(1, 2)]);
    for group in ["a", "b"] {
        let offsets: Vec<_> = (0..3).map(|number| new(at(1, number), u64::from(number), "")).collect();
        commit(&mut mill, group, &offsets);
    }
    mill.commit();
    // What stands behind the table is not of it.
    mill.applied.put(Key::Cluster.encode(), bytes::Bytes::new());
    for limit in 1..8 {
        let mut found = Vec::new();
        let mut from = Some(Key::table(Key::GROUP_OFFSETS));
        while let Some(start) = from {
            let (rows, next) = group_offsets::page(&mill.applied, &start, limit).unwrap();
            found.extend(rows.into_iter().map(|(at, group, row)| (at.partition.0, group, row.offset.0)));
            from = next;
        }
        let expected: Vec<_> =
            (0..3).flat_map(|n| ["a", "b"].map(|group| (n, group.to_owned(), u64::from(n)))).collect();
        assert_eq!(found, expected, "{limit} a page");
    }
}
