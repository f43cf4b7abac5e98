//! A partition that goes takes all with it that was known of it, and nothing else.

use bytes::Bytes;
use tidemill_core::fault::Fault;
use tidemill_core::ids::{DeploymentId, Generation, LogIndex, TaskId};
use tidemill_core::limits;
use tidemill_core::rejection::Rejection;
use tidemill_core::shard;
use tidemill_core::shard::control::{self, Control, Deleted, NewTask};
use tidemill_core::shard::produce::Verdict;
use tidemill_core::tables::{Key, MemoryTables, Tables, View, end_of_prefix};
use tidemill_core::task::TaskSpec;
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::mill::{Mill, ORDERS, TASK, at, batch, spec, start};

/// Tables in which a task's state is looked at in pages of keys, and never at its values.
struct Paged(MemoryTables);

impl View for Paged {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.0.get(key)
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        assert!(!start.starts_with(&Key::table(7)), "values of the state are read");
        self.0.scan(start, end, limit)
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        assert!(limit <= limits::DELETED_PAGE_KEYS, "{limit} keys at once");
        self.0.keys(start, end, limit)
    }
}

impl Tables for Paged {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.0.put(key, value);
    }

    fn delete(&mut self, key: Bytes) {
        self.0.delete(key);
    }
}

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

#[test]
fn a_state_goes_page_by_page_however_many_rows_it_has() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let neighbour = TaskId { deployment: DeploymentId(TASK.deployment.0 + 1), ..TASK };
    let page = limits::DELETED_PAGE_KEYS as u32;
    let anew = TaskSpec { emptied: Generation(2), ..spec(2) };
    let tasks = vec![NewTask { partition: 0, cursor: Default::default(), starts: vec![0] }];
    let orders = [
        Control::RemoveTasks { deployment: TASK.deployment },
        Control::StartTasks { spec: Box::new(anew), tasks },
    ];
    for order in &orders {
        let entry = mill.decide(|deciding| control::decide(deciding, order)).unwrap();
        for rows in [0, 1, page - 1, page, page + 1, 2 * page, 2 * page + 7] {
            let mut tables = Paged(mill.applied.clone());
            for row in 0..rows {
                let key = |task| Key::State(task, Bytes::copy_from_slice(&row.to_be_bytes())).encode();
                tables.put(key(TASK), Bytes::from_static(b"kept"));
                tables.put(key(neighbour), Bytes::from_static(b"kept"));
            }
            shard::apply(&mut tables, LogIndex(9), &entry, &mut Vec::new()).unwrap();
            let left = |task| {
                let prefix = Key::state_prefix(task);
                tables.0.keys(&prefix, end_of_prefix(&prefix).as_deref(), usize::MAX).unwrap().len() as u32
            };
            assert_eq!((left(TASK), left(neighbour)), (0, rows));
        }
    }
}
