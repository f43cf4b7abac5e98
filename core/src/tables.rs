//! The tables that `apply` keeps: one ordered map from [`Key`] to bytes for each Raft group.
//!
//! [`Key`] is the schema: every table, its key bytes, its value and its number. Keys are big-endian, so that
//! the order of their bytes is the order of what they name, and a prefix scans a table. Numbers are written to
//! disk: none is ever used again for something else.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use tidemill_protocol::ids::{Offset, Partition, ProducerId, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use crate::fault::Fault;
use crate::ids::{DeploymentId, ShardId, StepNumber, TaskId};
use crate::limits;
use crate::plugin::TimerKind;

/// The tables of one group, to read. Reading may fail, because what is not in memory is read from disk.
pub trait View {
    /// The value of `key`.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// At most `limit` pairs with `start <= key` and `key < end`, in the order of their keys.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault>;

    /// The keys of what [`View::scan`] returns. Values are neither held nor verified.
    ///
    /// # Errors
    /// A [`Fault`] of the storage.
    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault>;
}

/// The tables of one group. Writing stages in memory and cannot fail.
pub trait Tables: View {
    /// Sets a value.
    fn put(&mut self, key: Bytes, value: Bytes);

    /// Removes a key, if it is there.
    fn delete(&mut self, key: Bytes);
}

/// Changes over some tables: new values, and keys removed.
pub type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// Scans `base` as it would be with `changes` made: see [`View::scan`].
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn scan_with(
    base: &dyn View,
    changes: &Changes,
    start: &[u8],
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    merged(|from| base.scan(from, end, limit), Bytes::clone, changes, start, end, limit)
}

/// The keys of what [`scan_with`] returns: see [`View::keys`].
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn keys_with(
    base: &dyn View,
    changes: &Changes,
    start: &[u8],
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Bytes>, Fault> {
    let page = |from: &[u8]| -> Result<Vec<(Bytes, ())>, Fault> {
        Ok(base.keys(from, end, limit)?.into_iter().map(|key| (key, ())).collect())
    };
    let found = merged(page, |_| (), changes, start, end, limit)?;
    Ok(found.into_iter().map(|(key, ())| key).collect())
}

/// Pages of a base, as they would be with changes made; `of` is what is wanted of a new value.
fn merged<T>(
    page: impl Fn(&[u8]) -> Result<Vec<(Bytes, T)>, Fault>,
    of: impl Fn(&Bytes) -> T,
    changes: &Changes,
    start: &[u8],
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(Bytes, T)>, Fault> {
    let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
    if limit == 0 || end.is_some_and(|end| end <= start) {
        return Ok(Vec::new());
    }
    let mut changed = changes.range::<[u8], _>((Bound::Included(start), upper)).peekable();
    let mut found = Vec::new();
    let mut from = Bytes::copy_from_slice(start);
    loop {
        let page = page(&from)?;
        let is_last = page.len() < limit;
        let next = page.last().map(|(key, _)| successor(key));
        for (key, value) in page {
            while let Some((earlier, new)) = changed.next_if(|(change, _)| **change < key) {
                found.extend(new.as_ref().map(|new| (earlier.clone(), of(new))));
            }
            match changed.next_if(|(change, _)| **change == key) {
                Some((_, new)) => found.extend(new.as_ref().map(|new| (key, of(new)))),
                None => found.push((key, value)),
            }
            if found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
        let Some(next) = next.filter(|_| !is_last) else { break };
        from = next;
    }
    for (key, value) in changed {
        found.extend(value.as_ref().map(|value| (key.clone(), of(value))));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The least key above `key`.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    Bytes::from(next)
}

/// Removes what lies in `start <= key` and `key < end`, page by page, whatever its values are. Each key stays in memory
/// as removed: until the next checkpoint, and on a leader a second time until the entry is applied.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn delete_within(
    tables: &mut (impl Tables + ?Sized),
    start: &[u8],
    end: Option<&[u8]>,
) -> Result<(), Fault> {
    let mut from = Bytes::copy_from_slice(start);
    loop {
        let keys = tables.keys(&from, end, limits::DELETED_PAGE_KEYS)?;
        let is_last = keys.len() < limits::DELETED_PAGE_KEYS;
        from = keys.last().map_or(from, |last| successor(last));
        keys.into_iter().for_each(|key| tables.delete(key));
        if is_last {
            return Ok(());
        }
    }
}

/// A value that knows its bytes.
pub trait Row: Sized {
    /// Writes it.
    fn encode(&self) -> Bytes;

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] when these are not its bytes.
    fn decode(bytes: &Bytes) -> Result<Self, Malformed>;
}

/// Reads the row at `key`.
///
/// # Errors
/// A [`Fault`] of the storage, or one that names the damaged row.
pub fn read<R: Row>(view: &(impl View + ?Sized), key: &Key) -> Result<Option<R>, Fault> {
    let Some(bytes) = view.get(&key.encode())? else { return Ok(None) };
    R::decode(&bytes).map(Some).map_err(|malformed| Fault::damaged(format!("{key:?}"), malformed))
}

/// Sets the row at `key`.
pub fn write<R: Row>(tables: &mut (impl Tables + ?Sized), key: &Key, row: &R) {
    tables.put(key.encode(), row.encode());
}

/// Every table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// 1 · What a shard knows of itself → [`ShardRow`](crate::rows::ShardRow).
    Shard,
    /// 2 · topic, partition → [`PartitionRow`](crate::rows::PartitionRow). Changes with every batch.
    Partition(TopicPartition),
    /// 3 · topic, partition, producer → [`ProducerRow`](crate::rows::ProducerRow). Changes with every batch.
    Producer(TopicPartition, ProducerId),
    /// 4 · topic, partition, producer, number of the batch → [`RecentBatch`](crate::rows::RecentBatch). Kept for
    /// as many batches as the producer's window.
    Recent(TopicPartition, ProducerId, u64),
    /// 5 · deployment → [`TaskSpec`](crate::task::TaskSpec) as JSON. Changes with every generation.
    Spec(DeploymentId),
    /// 6 · task → [`TaskRow`](crate::rows::TaskRow). Changes with every step.
    Task(TaskId),
    /// 7 · task, the guest's key → the guest's value.
    State(TaskId, Bytes),
    /// 8 · topic, partition, task of another shard → [`LinkRow`](crate::rows::LinkRow): the last of its steps that
    /// arrived there.
    Inbound(TopicPartition, TaskId),
    /// 9 · task, topic, partition of another shard → [`LinkRow`](crate::rows::LinkRow): the last step that derived
    /// something for it.
    Outbound(TaskId, TopicPartition),
    /// 10 · shard, task, step → [`PendingRow`](crate::rows::PendingRow): what that step derived for that shard has
    /// not arrived yet.
    Pending(ShardId, TaskId, StepNumber),
    /// 11 · task, kind, the guest's name → [`TimerRow`](crate::timers::TimerRow).
    Timer(TaskId, TimerKind, Bytes),
    /// 12 · task, kind, due time in milliseconds, the guest's name → [`SetBy`](crate::timers::SetBy).
    Due(TaskId, TimerKind, i64, Bytes),
    /// 13 · task → [`EventTimeRow`](crate::event_time::EventTimeRow). Changes with every step.
    EventTime(TaskId),
    /// 20 · topic, partition, consumer group → [`GroupOffsetRow`](crate::rows::GroupOffsetRow).
    GroupOffset(TopicPartition, String),
    /// 21 · topic, partition, offset of a dead letter → [`LetterRow`](crate::rows::LetterRow): what became of it.
    Letter(TopicPartition, Offset),
    /// 22 · topic, partition, offset of a dead letter → [`RedriveRow`](crate::rows::RedriveRow): it waits to be given to
    /// its plugin again.
    Redrive(TopicPartition, Offset),
    /// 32 · What the cluster knows of itself → [`ClusterRow`](crate::catalog::ClusterRow) as JSON.
    Cluster,
    /// 33 · topic → [`TopicRow`](crate::catalog::TopicRow) as JSON.
    Topic(TopicId),
    /// 34 · tenant, topic name → topic id.
    TopicName(String, String),
    /// 35 · tenant, group name → [`AffinityGroupRow`](crate::catalog::AffinityGroupRow) as JSON.
    AffinityGroup(String, String),
    /// 36 · tenant, plugin name → [`Deployment`](crate::catalog::Deployment) as JSON.
    Deployment(String, String),
    /// 37 · topic that is no more → [`DeletedTopic`](crate::catalog::DeletedTopic) as JSON, until no shard holds any of it.
    DeletedTopic(TopicId),
}

impl Key {
    /// The number of the table that holds what consumer groups committed.
    pub const GROUP_OFFSETS: u8 = 20;

    /// The key's bytes: the table's number, then its fields.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(48);
        match self {
            Key::Shard => writer.u8(1),
            Key::Partition(at) => place(writer.u8(2), *at),
            Key::Producer(at, id) => place(writer.u8(3), *at).i64(id.0),
            Key::Recent(at, id, number) => place(writer.u8(4), *at).i64(id.0).u64(*number),
            Key::Spec(deployment) => writer.u8(5).u64(deployment.0),
            Key::Task(task) => owner(writer.u8(6), *task),
            Key::State(task, key) => owner(writer.u8(7), *task).raw(key),
            Key::Inbound(at, task) => owner(place(writer.u8(8), *at), *task),
            Key::Outbound(task, at) => place(owner(writer.u8(9), *task), *at),
            Key::Pending(shard, task, step) => owner(writer.u8(10).u16(shard.0), *task).u64(step.0),
            Key::Timer(task, kind, name) => owner(writer.u8(11), *task).u8(*kind as u8).raw(name),
            Key::Due(task, kind, at_ms, name) => {
                owner(writer.u8(12), *task).u8(*kind as u8).u64(ordered(*at_ms)).raw(name)
            }
            Key::EventTime(task) => owner(writer.u8(13), *task),
            Key::GroupOffset(at, group) => place(writer.u8(Key::GROUP_OFFSETS), *at).raw(group.as_bytes()),
            Key::Letter(at, offset) => place(writer.u8(21), *at).u64(offset.0),
            Key::Redrive(at, offset) => place(writer.u8(22), *at).u64(offset.0),
            Key::Cluster => writer.u8(32),
            Key::Topic(topic) => writer.u8(33).raw(&topic.0),
            Key::TopicName(tenant, name) => names(writer.u8(34), tenant, name),
            Key::AffinityGroup(tenant, name) => names(writer.u8(35), tenant, name),
            Key::Deployment(tenant, name) => names(writer.u8(36), tenant, name),
            Key::DeletedTopic(topic) => writer.u8(37).raw(&topic.0),
        };
        writer.finish()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`Malformed`] for a table that this version does not know, or fields that do not fit it.
    pub fn decode(bytes: &Bytes) -> Result<Key, Malformed> {
        let mut reader = Reader::new(bytes.clone());
        let r = &mut reader;
        let key = match r.u8("table")? {
            1 => Key::Shard,
            2 => Key::Partition(read_place(r)?),
            3 => Key::Producer(read_place(r)?, ProducerId(r.i64("producer")?)),
            4 => Key::Recent(read_place(r)?, ProducerId(r.i64("producer")?), r.u64("batch number")?),
            5 => Key::Spec(DeploymentId(r.u64("deployment")?)),
            6 => Key::Task(read_owner(r)?),
            7 => {
                let task = read_owner(r)?;
                let rest = r.remaining();
                Key::State(task, r.bytes(rest, "state key")?)
            }
            8 => Key::Inbound(read_place(r)?, read_owner(r)?),
            9 => {
                let task = read_owner(r)?;
                Key::Outbound(task, read_place(r)?)
            }
            10 => {
                let shard = ShardId(r.u16("shard")?);
                Key::Pending(shard, read_owner(r)?, StepNumber(r.u64("step")?))
            }
            11 => {
                let (task, kind) = (read_owner(r)?, read_kind(r)?);
                let rest = r.remaining();
                Key::Timer(task, kind, r.bytes(rest, "timer")?)
            }
            12 => {
                let (task, kind) = (read_owner(r)?, read_kind(r)?);
                let at_ms = ordered(r.u64("due time")? as i64) as i64;
                let rest = r.remaining();
                Key::Due(task, kind, at_ms, r.bytes(rest, "timer")?)
            }
            13 => Key::EventTime(read_owner(r)?),
            Key::GROUP_OFFSETS => {
                let at = read_place(r)?;
                let rest = r.remaining();
                let group = std::str::from_utf8(&r.bytes(rest, "group")?).map(str::to_owned);
                Key::GroupOffset(at, group.map_err(|_| r.malformed("group"))?)
            }
            21 => Key::Letter(read_place(r)?, Offset(r.u64("offset")?)),
            22 => Key::Redrive(read_place(r)?, Offset(r.u64("offset")?)),
            32 => Key::Cluster,
            33 => Key::Topic(TopicId(r.array("topic")?)),
            34 => read_names(r).map(|(tenant, name)| Key::TopicName(tenant, name))?,
            35 => read_names(r).map(|(tenant, name)| Key::AffinityGroup(tenant, name))?,
            36 => read_names(r).map(|(tenant, name)| Key::Deployment(tenant, name))?,
            37 => Key::DeletedTopic(TopicId(r.array("topic")?)),
            _ => return Err(Malformed { what: "table", at: 0 }),
        };
        reader.finish("key")?;
        Ok(key)
    }

    /// The start of every key of the task's state.
    pub fn state_prefix(task: TaskId) -> Bytes {
        Key::State(task, Bytes::new()).encode()
    }

    /// The start of every key of a deployment's tasks.
    pub fn tasks_prefix(deployment: DeploymentId) -> Bytes {
        let mut writer = Writer::with_capacity(9);
        writer.u8(6).u64(deployment.0);
        writer.finish()
    }

    /// The starts of all keys that a task's state consists of: what the guest keeps, its timers, its clocks.
    pub fn memory_prefixes(task: TaskId) -> [Bytes; 4] {
        [7, 11, 12, 13].map(|table| Key::of_task(table, task))
    }

    /// The start of every key that says what a task last sent to other shards.
    pub fn outbound_prefix(task: TaskId) -> Bytes {
        Key::of_task(9, task)
    }

    fn of_task(table: u8, task: TaskId) -> Bytes {
        let mut writer = Writer::with_capacity(13);
        owner(writer.u8(table), task);
        writer.finish()
    }

    /// The starts of all keys of what a shard keeps of a partition besides its row: producers, their batches, what
    /// arrived from tasks elsewhere, what consumers committed, what became of dead letters and what is to.
    pub fn partition_prefixes(at: TopicPartition) -> [Bytes; 6] {
        [3, 4, 8, Key::GROUP_OFFSETS, 21, 22].map(|table| Key::of_partition(table, at))
    }

    /// The start of every key of the partition's dead letters that wait to be given to their plugin again.
    pub fn redrives_prefix(at: TopicPartition) -> Bytes {
        Key::of_partition(22, at)
    }

    fn of_partition(table: u8, at: TopicPartition) -> Bytes {
        let mut writer = Writer::with_capacity(21);
        place(writer.u8(table), at);
        writer.finish()
    }

    /// The start of every key of the task's timers of a kind, by time.
    pub fn due_prefix(task: TaskId, kind: TimerKind) -> Bytes {
        let mut writer = Writer::with_capacity(14);
        owner(writer.u8(12), task).u8(kind as u8);
        writer.finish()
    }

    /// The start of every key of what is pending for a shard.
    pub fn pending_prefix(to: ShardId) -> Bytes {
        let mut writer = Writer::with_capacity(3);
        writer.u8(10).u16(to.0);
        writer.finish()
    }

    /// The start of every key that says what a task is told.
    pub fn specs() -> Bytes {
        Bytes::from_static(&[5])
    }

    /// The start of every key of a task.
    pub fn tasks() -> Bytes {
        Bytes::from_static(&[6])
    }

    /// The bytes that every key of table `number` starts with.
    pub fn table(number: u8) -> Bytes {
        Bytes::copy_from_slice(&[number])
    }
}

/// The least key above all that start with `prefix`, for the end of a scan; `None` when there is none.
pub fn end_of_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(Bytes::from(end))
}

fn place(writer: &mut Writer, at: TopicPartition) -> &mut Writer {
    writer.raw(&at.topic.0).u32(at.partition.0)
}

fn owner(writer: &mut Writer, task: TaskId) -> &mut Writer {
    writer.u64(task.deployment.0).u32(task.partition.0)
}

// Names hold no zero byte, so one ends a name without disturbing the order.
fn names<'a>(writer: &'a mut Writer, tenant: &str, name: &str) -> &'a mut Writer {
    writer.raw(tenant.as_bytes()).u8(0).raw(name.as_bytes())
}

/// Big-endian bytes of this are in the order of the times, also before 1970; done twice it is undone.
fn ordered(at_ms: i64) -> u64 {
    (at_ms ^ i64::MIN) as u64
}

fn read_kind(reader: &mut Reader) -> Result<TimerKind, Malformed> {
    let number = reader.u8("kind of timer")?;
    TimerKind::of(number).ok_or_else(|| reader.malformed("kind of timer"))
}

fn read_place(reader: &mut Reader) -> Result<TopicPartition, Malformed> {
    let topic = TopicId(reader.array("topic")?);
    Ok(TopicPartition { topic, partition: Partition(reader.u32("partition")?) })
}

fn read_owner(reader: &mut Reader) -> Result<TaskId, Malformed> {
    let deployment = DeploymentId(reader.u64("deployment")?);
    Ok(TaskId { deployment, partition: Partition(reader.u32("task partition")?) })
}

fn read_names(reader: &mut Reader) -> Result<(String, String), Malformed> {
    let rest = reader.remaining();
    let bytes = reader.bytes(rest, "names")?;
    let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once('\0'));
    let (tenant, name) = text.ok_or_else(|| reader.malformed("names"))?;
    Ok((tenant.to_owned(), name.to_owned()))
}

/// Tables in memory alone: for checks, for replays and for tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTables {
    rows: BTreeMap<Bytes, Bytes>,
}

impl MemoryTables {
    /// All rows, in the order of their keys.
    pub fn rows(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.rows.iter()
    }

    fn within(&self, start: &[u8], end: Option<&[u8]>) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let from = self.rows.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        from.take_while(move |(key, _)| end.is_none_or(|end| &key[..] < end))
    }
}

impl View for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(self.within(start, end).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn keys(&self, start: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, Fault> {
        Ok(self.within(start, end).take(limit).map(|(key, _)| key.clone()).collect())
    }
}

impl Tables for MemoryTables {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.rows.insert(key, value);
    }

    fn delete(&mut self, key: Bytes) {
        self.rows.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_as_it_is_written() {
        let at = TopicPartition { topic: TopicId([3; 16]), partition: Partition(9) };
        let task = TaskId { deployment: DeploymentId(5), partition: Partition(2) };
        let names = || ("default".to_owned(), "orders".to_owned());
        let keys = [
            Key::Shard,
            Key::Partition(at),
            Key::Producer(at, ProducerId(4)),
            Key::Recent(at, ProducerId(4), 17),
            Key::Spec(DeploymentId(5)),
            Key::Task(task),
            Key::State(task, Bytes::from_static(b"\x00any\xff")),
            Key::Inbound(at, task),
            Key::Outbound(task, at),
            Key::Pending(ShardId(6), task, StepNumber(8)),
            Key::Timer(task, TimerKind::AppendTime, Bytes::from_static(b"close")),
            Key::Due(task, TimerKind::EventTime, -7, Bytes::from_static(b"close")),
            Key::EventTime(task),
            Key::GroupOffset(at, "mailers".to_owned()),
            Key::Letter(at, Offset(7)),
            Key::Redrive(at, Offset(7)),
            Key::Cluster,
            Key::Topic(at.topic),
            Key::TopicName(names().0, names().1),
            Key::AffinityGroup(names().0, names().1),
            Key::Deployment(names().0, names().1),
            Key::DeletedTopic(at.topic),
        ];
        for key in keys {
            assert_eq!(Key::decode(&key.encode()), Ok(key.clone()), "{key:?}");
            let mut longer = key.encode().to_vec();
            longer.push(1);
            assert_ne!(Key::decode(&Bytes::from(longer)), Ok(key), "a byte too many");
        }
        assert!(Key::decode(&Bytes::from_static(&[200])).is_err());
    }

    #[test]
    fn a_scan_with_changes_equals_a_scan_of_the_changed() {
        let bytes = |n: u8| Bytes::copy_from_slice(&[n]);
        let mut base = MemoryTables::default();
        (0..20).step_by(2).for_each(|n| base.put(bytes(n), bytes(n)));
        let changes: Changes =
            (0..20).step_by(3).map(|n| (bytes(n), (n % 2 == 1).then(|| bytes(100 + n)))).collect();
        let mut changed = base.clone();
        for (key, value) in changes.clone() {
            match value {
                Some(value) => changed.put(key, value),
                None => changed.delete(key),
            }
        }
        for (start, end) in [(0, None), (3, Some(11)), (0, Some(0)), (19, None), (7, Some(8))] {
            for limit in 0..25 {
                let end = end.map(|end| [end]);
                let end = end.as_ref().map(|end| &end[..]);
                let expected = changed.scan(&[start], end, limit).unwrap();
                assert_eq!(scan_with(&base, &changes, &[start], end, limit).unwrap(), expected);
                let keys: Vec<_> = expected.into_iter().map(|(key, _)| key).collect();
                assert_eq!(keys_with(&base, &changes, &[start], end, limit).unwrap(), keys);
                assert_eq!(changed.keys(&[start], end, limit).unwrap(), keys);
            }
        }
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(end_of_prefix(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(end_of_prefix(b"a\xff\xff").as_deref(), Some(&b"b"[..]));
        assert_eq!(end_of_prefix(b"\xff"), None);
    }
}
