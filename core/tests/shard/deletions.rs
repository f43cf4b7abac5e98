//! A partition that goes takes all with it that was known of it, and nothing else.

use tidemill_core::rejection::Rejection;
use tidemill_core::shard::control::{Control, Deleted};
use tidemill_core::shard::produce::Verdict;
use tidemill_core::tables::{Key, View, end_of_prefix};
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::mill::{Mill, ORDERS, at, batch};

fn delete(mill: &mut Mill, gone: TopicPartition) {
    let partitions = vec![Deleted { topic: gone.topic, partition: gone.partition.0 }];
    mill.control(&Control::DeletePartitions { partitions });
    mill.commit();
}

fn rows_of(mill: &Mill, at: TopicPartition) -> usize {
    let rows = |prefix: &[u8]| {
        mill.applied.scan(prefix, end_of_prefix(prefix).as_deref(), usize::MAX).unwrap().len()
    };
    Key::partition_prefixes(at).iter().map(|prefix| rows(prefix)).sum()
}

#[test]
fn what_is_deleted_is_not_there() {
    let neighbour = at(1, 1);
    let mut mill = Mill::holding(&[ORDERS, neighbour]);
    mill.produce(batch(9, 0, 0, 5));
    let mut other = batch(9, 0, 0, 2);
    other.at = neighbour;
    mill.produce(other.clone());
    mill.commit();
    assert!(rows_of(&mill, ORDERS) > 0);

    delete(&mut mill, ORDERS);
    assert_eq!(rows_of(&mill, ORDERS), 0);
    assert_eq!(mill.produce(batch(9, 0, 5, 1)), Verdict::Refuse(Rejection::NoPartition(ORDERS)));
    assert!(rows_of(&mill, neighbour) > 0);
    assert_eq!(mill.produce(other), Verdict::Duplicate { base_offset: Offset(0) }, "its neighbour remembers");

    delete(&mut mill, ORDERS);
    assert_eq!(mill.end(neighbour), 2, "a second time is none");
}
