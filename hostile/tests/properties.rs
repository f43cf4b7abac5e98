//! Every target on seeds that chance has changed, and on bytes of chance alone; and values of chance, which are read as they
//! were written.
#![allow(missing_docs, reason = "tests are read, not called")]

use proptest::prelude::*;
use tidemill_core::ids::{DeploymentId, ShardId, StepNumber, TaskId};
use tidemill_core::plugin::TimerKind;
use tidemill_core::tables::Key;
use tidemill_hostile::{TARGETS, seeds};
use tidemill_protocol::batch::{self, BatchBuilder, BatchLimits};
use tidemill_protocol::codec::Codec;
use tidemill_protocol::frame::{self, FrameDecoder};
use tidemill_protocol::ids::{Partition, ProducerId, TopicId, TopicPartition};

/// What is done to a seed.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
    /// Lengths and counts are where most goes wrong: four bytes of an extreme.
    Extreme(usize, u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<usize>(), 1..=255_u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => any::<usize>().prop_map(Change::Cut),
        2 => (any::<usize>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, more)| Change::Insert(at, more)),
        1 => (any::<usize>(), 1..64_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        2 => (any::<usize>(), 0..4_u8).prop_map(|(at, which)| Change::Extreme(at, which)),
    ]
}

fn changed(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        let length = bytes.len().max(1);
        match change {
            Change::Flip(at, bits) => bytes.get_mut(at % length).into_iter().for_each(|byte| *byte ^= bits),
            Change::Cut(at) => bytes.truncate(at % length),
            Change::Insert(at, more) => {
                let at = at % (bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Repeat(at, count) => {
                let from = at % length;
                let part = bytes[from.min(bytes.len())..(from + count).min(bytes.len())].to_vec();
                bytes.extend(part);
            }
            Change::Extreme(at, which) => {
                let extreme =
                    [[0; 4], [0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0]][usize::from(*which)];
                for (place, byte) in extreme.into_iter().enumerate() {
                    bytes.get_mut(at % length + place).into_iter().for_each(|old| *old = byte);
                }
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn seeds_that_chance_has_changed(
        which in any::<usize>(),
        changes in prop::collection::vec(change(), 1..8),
    ) {
        for (name, target) in TARGETS {
            let seeds = seeds::of(name);
            target(&changed(&seeds[which % seeds.len()], &changes));
        }
    }

    #[test]
    fn bytes_of_chance(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, target) in TARGETS {
            target(&bytes);
        }
    }

    #[test]
    fn records_are_read_as_they_were_written(
        records in prop::collection::vec(
            (any::<i64>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), prop::option::of(prop::collection::vec(any::<u8>(), 0..50))),
            1..20,
        ),
        codec in prop::sample::select(&Codec::ALL[..]),
    ) {
        let limits = BatchLimits { batch_bytes: 1 << 20, records: 100, headers: 8, inflated_bytes: 1 << 20, inflate_ratio: 100 };
        let mut builder = BatchBuilder::new(codec);
        for (time, key, value) in &records {
            builder.push(*time, key.as_deref(), value.as_deref(), &[("n", None)]).unwrap();
        }
        let batch = builder.build().unwrap();
        prop_assert!(batch::verify(&batch, &limits).is_ok());
        let read = batch::decode(&batch, &limits).unwrap();
        let read: Vec<_> = read.into_iter().map(|record| {
            (record.timestamp_ms, record.key.map(Vec::from), record.value.map(Vec::from))
        }).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn frames_are_read_as_they_were_written(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10),
        piece in 1..400_usize,
    ) {
        let all = frames.iter().flat_map(|frame| frame::encode(vec![frame.clone().into()])).collect::<Vec<_>>().concat();
        let mut decoder = FrameDecoder::new(300);
        let mut read = Vec::new();
        for bytes in all.chunks(piece) {
            decoder.feed(bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame.to_vec());
            }
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn keys_are_read_as_they_were_written_and_lie_in_order(
        topic in any::<[u8; 16]>(),
        numbers in any::<(u32, u64, u64, i64, u16)>(),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (partition, deployment, step, at_ms, shard) = numbers;
        let at = TopicPartition { topic: TopicId(topic), partition: Partition(partition) };
        let task = TaskId { deployment: DeploymentId(deployment), partition: Partition(partition) };
        let due = |at_ms| Key::Due(task, TimerKind::EventTime, at_ms, rest.clone().into());
        for key in [
            Key::Partition(at),
            Key::Recent(at, ProducerId(at_ms), step),
            Key::State(task, rest.clone().into()),
            Key::Pending(ShardId(shard), task, StepNumber(step)),
            Key::Timer(task, TimerKind::AppendTime, rest.clone().into()),
            due(at_ms),
        ] {
            prop_assert_eq!(Key::decode(&key.encode()), Ok(key));
        }
        if let Some(later) = at_ms.checked_add(1) {
            prop_assert!(due(at_ms).encode() < due(later).encode());
        }
    }
}
