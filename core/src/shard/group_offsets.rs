//! Offsets that consumers commit: where a group was in each partition, kept beside the partition.
//!
//! A group is a name. Consumers that assign their partitions themselves commit under it and ask for it again; whose
//! members share partitions, with generations that fence one another, there are none yet. A later commit replaces an
//! earlier one, also with a smaller offset. It is kept until the partition goes.

use bytes::Bytes;
use tidemill_protocol::ids::{Offset, Partition, TopicId, TopicPartition};
use tidemill_protocol::primitive::{Malformed, Reader, Writer};

use super::{Deciding, partition};
use crate::entry::{Entry, EntryKind};
use crate::fault::Fault;
use crate::limits;
use crate::rejection::Rejection;
use crate::rows::GroupOffsetRow;
use crate::tables::{self, Key, Row, Tables, View, end_of_prefix, successor};

/// An offset to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOffset {
    /// The partition.
    pub at: TopicPartition,
    /// The first offset that the group has not consumed.
    pub offset: Offset,
    /// The leader epoch of the record before it, as the client told; -1 when it did not.
    pub leader_epoch: i32,
    /// Whatever the client wants to be told again.
    pub metadata: String,
}

/// Whether an offset is kept.
pub type Verdict = Result<(), Rejection>;

/// Looks at what a group commits, and makes the entry of what is to be kept, if any. Each offset has its verdict.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn decide(
    deciding: &Deciding,
    group: &str,
    offsets: &[NewOffset],
) -> Result<(Vec<Verdict>, Option<Entry>), Fault> {
    let append_time = deciding.append_time()?;
    let mut verdicts = Vec::with_capacity(offsets.len());
    let mut kept = Vec::new();
    for new in offsets {
        let verdict = judge(deciding.head, new)?;
        if verdict.is_ok() {
            kept.push(new);
        }
        verdicts.push(verdict);
    }
    if kept.is_empty() {
        return Ok((verdicts, None));
    }
    let mut meta = Writer::new();
    meta.text(group).u32(kept.len() as u32);
    for new in kept {
        meta.raw(&new.at.topic.0).u32(new.at.partition.0);
        meta.u64(new.offset.0).u32(new.leader_epoch as u32).text(&new.metadata);
    }
    let entry =
        Entry { kind: EntryKind::GroupOffsets, append_time, meta: meta.finish(), batches: Vec::new() };
    Ok((verdicts, Some(entry)))
}

fn judge(head: &dyn View, new: &NewOffset) -> Result<Verdict, Fault> {
    let (bytes, limit) = (new.metadata.len(), limits::OFFSET_METADATA_BYTES_MAX);
    if bytes > limit {
        return Ok(Err(Rejection::OffsetMetadata { bytes, limit }));
    }
    Ok(match partition(head, new.at)? {
        Some(_) => Ok(()),
        None => Err(Rejection::NoPartition(new.at)),
    })
}

/// See [`super::apply`].
pub(super) fn apply(tables: &mut dyn Tables, entry: &Entry) -> Result<(), Fault> {
    let (group, offsets) = read(&entry.meta).map_err(|error| Fault::damaged("a commit of offsets", error))?;
    for new in offsets {
        let row = GroupOffsetRow {
            offset: new.offset,
            leader_epoch: new.leader_epoch,
            append_time: entry.append_time,
            metadata: new.metadata,
        };
        tables::write(tables, &Key::GroupOffset(new.at, group.clone()), &row);
    }
    Ok(())
}

fn read(meta: &Bytes) -> Result<(String, Vec<NewOffset>), Malformed> {
    let mut reader = Reader::new(meta.clone());
    let group = reader.text("group")?;
    let mut offsets = Vec::new();
    for _ in 0..reader.u32("number of offsets")? {
        let topic = TopicId(reader.array("topic")?);
        let at = TopicPartition { topic, partition: Partition(reader.u32("partition")?) };
        let offset = Offset(reader.u64("offset")?);
        let leader_epoch = reader.u32("leader epoch")? as i32;
        offsets.push(NewOffset { at, offset, leader_epoch, metadata: reader.text("metadata")? });
    }
    reader.finish("a commit of offsets")?;
    Ok((group, offsets))
}

/// What a group committed last for a partition.
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn committed(view: &dyn View, at: TopicPartition, group: &str) -> Result<Option<GroupOffsetRow>, Fault> {
    tables::read(view, &Key::GroupOffset(at, group.to_owned()))
}

/// A page of all that groups have committed in this shard, and where the next page begins, unless this was the last.
pub type Page = (Vec<(TopicPartition, String, GroupOffsetRow)>, Option<Bytes>);

/// Reads such a page of at most `limit` rows; the first begins at [`Key::table`] of [`Key::GROUP_OFFSETS`].
///
/// # Errors
/// A [`Fault`] of the storage.
pub fn page(view: &dyn View, from: &Bytes, limit: usize) -> Result<Page, Fault> {
    let end = end_of_prefix(&Key::table(Key::GROUP_OFFSETS));
    let rows = view.scan(from, end.as_deref(), limit)?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| successor(key));
    let damaged = |malformed| Fault::damaged("a committed offset", malformed);
    let mut page = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        if let Key::GroupOffset(at, group) = Key::decode(&key).map_err(damaged)? {
            page.push((at, group, GroupOffsetRow::decode(&value).map_err(damaged)?));
        }
    }
    Ok((page, next))
}
