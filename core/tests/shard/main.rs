//! Stories of one shard, and of two that ship to one another.

mod behind;
mod deletions;
mod generations;
mod group_offsets;
mod letters;
mod mill;
mod timers;
mod trims;

use mill::*;
use proptest::prelude::*;
use tidemill_core::effect::Effect;
use tidemill_core::envelope::{Envelope, Origin, is_sealed_for};
use tidemill_core::ids::{Generation, ShardId, StepNumber};
use tidemill_core::limits;
use tidemill_core::plugin::{Effects, StateChange};
use tidemill_core::rejection::Rejection;
use tidemill_core::rows::{LinkRow, TaskStatus};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::control::{Control, NewPartition};
use tidemill_core::shard::produce::Verdict;
use tidemill_core::shard::ship::{Reception, Shipped};
use tidemill_core::shard::step::{Outcome, Proposed, StepRefused, TaskState};
use tidemill_protocol::batch::BatchHeader;
use tidemill_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};

fn append(offset: u64) -> Verdict {
    Verdict::Append { base_offset: Offset(offset) }
}

fn duplicate(offset: u64) -> Verdict {
    Verdict::Duplicate { base_offset: Offset(offset) }
}

#[test]
fn a_batch_sent_again_is_known_also_before_it_is_committed() {
    let mut mill = Mill::holding(&[ORDERS]);
    assert_eq!(mill.produce(batch(9, 0, 0, 3)), append(0));
    assert_eq!(mill.produce(batch(9, 0, 3, 2)), append(3), "against the head: nothing is committed yet");
    assert_eq!(mill.produce(batch(9, 0, 0, 3)), duplicate(0));
    mill.commit();
    assert_eq!(mill.end(ORDERS), 5);
    assert_eq!(mill.produce(batch(9, 0, 3, 2)), duplicate(3));
}

#[test]
fn what_was_decided_and_lost_is_decided_anew() {
    let mut mill = Mill::holding(&[ORDERS]);
    mill.produce(batch(9, 0, 0, 3));
    mill.lose_uncommitted();
    assert_eq!(mill.produce(batch(9, 0, 0, 3)), append(0), "it is no duplicate: it was never committed");
}

#[test]
fn gaps_fences_and_strangers_are_refused() {
    let mut mill = Mill::holding(&[ORDERS]);
    let refused = |rejection| Verdict::Refuse(rejection);
    assert_eq!(mill.produce(batch(9, 0, 4, 1)), refused(Rejection::UnknownProducer(Sequence(4))));
    mill.produce(batch(9, 1, 0, 1));
    let gap = Rejection::OutOfOrder { expected: Sequence(1), found: Sequence(5) };
    assert_eq!(mill.produce(batch(9, 1, 5, 1)), refused(gap));
    let fenced = Rejection::Fenced { current: ProducerEpoch(1), found: ProducerEpoch(0) };
    assert_eq!(mill.produce(batch(9, 0, 1, 1)), refused(fenced));
    let restart = Rejection::OutOfOrder { expected: Sequence(0), found: Sequence(1) };
    assert_eq!(mill.produce(batch(9, 2, 1, 1)), refused(restart), "a new epoch begins with 0");
    assert_eq!(mill.produce(batch(9, 2, 0, 1)), append(1));
    let mut elsewhere = batch(9, 0, 0, 1);
    elsewhere.at = at(8, 8);
    assert_eq!(mill.produce(elsewhere), refused(Rejection::NoPartition(at(8, 8))));
    let large = batch(-1, -1, -1, 1_000);
    assert!(matches!(mill.produce(large), Verdict::Refuse(Rejection::BatchTooLarge { limit: 10_000, .. })));
}

#[test]
fn the_window_is_as_wide_as_the_producer_id_says() {
    for (id, window) in [(9, 5), (ProducerId::WIDE_BIT | 9, 1_024)] {
        let mut mill = Mill::holding(&[ORDERS]);
        for sequence in 0..window + 1 {
            assert_eq!(mill.produce(batch(id, 0, sequence, 1)), append(sequence as u64));
            mill.commit();
        }
        assert_eq!(mill.produce(batch(id, 0, 1, 1)), duplicate(1), "the oldest in the window of {window}");
        let beyond = Verdict::Refuse(Rejection::LongWritten(Sequence(0)));
        assert_eq!(mill.produce(batch(id, 0, 0, 1)), beyond);
    }
}

#[test]
fn append_time_never_goes_back() {
    let mut mill = Mill::holding(&[ORDERS]);
    mill.produce(batch(9, 0, 0, 1));
    mill.now = Timestamp(5);
    mill.produce(batch(9, 0, 1, 1));
    mill.commit();
    assert!(mill.log.is_sorted_by_key(|entry| entry.append_time));
    assert_eq!(mill.log.last().unwrap().append_time, Timestamp(1_000));
}

#[test]
fn a_step_becomes_real_as_a_whole() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let effects = Effects {
        emitted: [0, 1, 0].map(|partition| emitted(0, key_for(partition))).to_vec(),
        state: vec![set("balance", "12")],
        timers: vec![],
    };
    mill.step(&proposed(&sources, 0, effects)).unwrap();
    {
        let head = mill.head.over(&mill.applied);
        let state = TaskState { task: TASK, head: &head };
        assert_eq!(state.get(b"balance").unwrap().as_deref(), Some(&b"12"[..]), "the next step may read it");
        assert_eq!(state.scan(b"", None, 10).unwrap().len(), 1);
    }
    assert_eq!(mill.task().step, StepNumber(0), "nothing is real before the commit");
    let effects = mill.commit();

    let row = mill.task();
    assert_eq!((row.step, row.cursor.index.0, row.positions[0].1), (StepNumber(1), 1, Offset(1)));
    let entry = mill.log.last().unwrap();
    assert_eq!(entry.batches.len(), 2, "one batch for each partition");
    let away: Vec<_> = entry.batches.iter().filter_map(|batch| batch.away).collect();
    assert_eq!(away, [ShardId(5)]);
    assert!(effects.contains(&Effect::ToShip { to: ShardId(5) }));
    assert_eq!(mill.pending(ShardId(5)), 1);
    for placed in &entry.batches {
        let header = BatchHeader::parse(&placed.batch).unwrap();
        assert!(is_sealed_for(&placed.envelope, placed.at, &header));
        match Envelope::parse(&placed.envelope).unwrap().origin {
            Origin::Task(derivation) => {
                assert_eq!((derivation.task, derivation.step), (TASK, StepNumber(1)));
                assert_eq!(derivation.lineage.len(), header.record_count as usize);
                assert!(
                    derivation
                        .lineage
                        .iter()
                        .all(|line| line.parent == sources[0].position && line.hops == 1)
                );
            }
            Origin::Producer => panic!("a derived batch says so"),
        }
    }
    let shipped = BatchHeader::parse(&shipments(&mill, 2)[0].batch.batch).unwrap();
    assert_eq!((mill.end(at(2, 0)), shipped.record_count), (2, 1));
}

#[test]
fn only_the_newest_generation_goes_on_where_the_last_step_ended() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let step = |from| proposed(&sources, from, Effects::default());
    mill.step(&step(0)).unwrap();
    assert_eq!(mill.step(&step(0)), Err(StepRefused::Fenced), "that range is consumed");
    assert_eq!(mill.step(&step(2)), Err(StepRefused::Fenced), "a range is missing before it");
    start(&mut mill, 2);
    assert_eq!(mill.step(&step(1)), Err(StepRefused::Fenced), "a newer generation is at work");
    mill.step(&Proposed { generation: Generation(2), ..step(1) }).unwrap();
    mill.commit();
    assert_eq!(mill.task().step, StepNumber(2), "numbers run on over generations");
}

#[test]
fn failures_are_counted_and_consume_nothing_until_the_policy_decides() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let stay = |outcome| {
        let step = proposed(&sources, 0, Effects::default());
        Proposed { to: step.from, positions: vec![Offset(0)], outcome, ..step }
    };
    let reason = || "no such customer".to_owned();
    mill.step(&stay(Outcome::Failed { attempts: 1, reason: reason() })).unwrap();
    mill.commit();
    assert_eq!((mill.task().attempts, mill.task().cursor.index.0), (1, 0));
    mill.step(&stay(Outcome::Stopped { reason: reason() })).unwrap();
    let effects = mill.commit();
    assert_eq!(mill.task().status, TaskStatus::Stopped);
    assert!(effects.contains(&Effect::TaskStopped { task: TASK }));
    assert_eq!(mill.step(&proposed(&sources, 0, Effects::default())), Err(StepRefused::Fenced));
}

#[test]
fn a_chain_ends_at_its_hop_limit() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let mut far = source(0);
    far.hops = 4;
    let effects = || Effects { emitted: vec![emitted(0, "b")], ..Effects::default() };
    let sources = [far];
    let refused = mill.step(&proposed(&sources, 0, effects())).unwrap_err();
    assert_eq!(refused, StepRefused::Hops { parent: far.position, hops: 5, limit: 4 });
    mill.step(&proposed(&[source(0)], 0, effects())).unwrap();
}

#[test]
fn a_batch_ends_at_what_its_partition_takes_now_or_elsewhere_took_when_the_generation_was_made() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let step = |mill: &mut Mill, partition, count| {
        let emitted = vec![emitted(0, key_for(partition)); count];
        match mill.step(&proposed(&sources, 0, Effects { emitted, ..Effects::default() })) {
            Ok(()) => None,
            Err(StepRefused::TooLarge { limit, .. }) => Some(limit),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(step(&mut mill, 1, 200), Some(2_000), "in shard 5");
    assert_eq!(step(&mut mill, 0, 2_000), Some(10_000), "here");
    let lines = NewPartition { topic: LINES, partition: 0, batch_bytes_max: 100_000 };
    mill.control(&Control::AlterPartitions { partitions: vec![lines] });
    assert_eq!(step(&mut mill, 0, 2_000), None, "without another generation");
}

#[test]
fn a_step_that_the_log_could_not_give_back_is_refused() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let keeps = |bytes: usize| {
        let change = StateChange { value: Some(vec![7; bytes].into()), ..set("k", "") };
        Effects { state: vec![change], ..Effects::default() }
    };
    let mut step = |bytes| mill.step(&proposed(&sources, 0, keeps(bytes)));
    let Err(StepRefused::Entry { bytes }) = step(limits::ENTRY_BYTES_MAX) else { panic!("it is taken") };
    let beside = bytes - limits::ENTRY_BYTES_MAX;
    assert_eq!(
        step(limits::ENTRY_BYTES_MAX - beside + 1),
        Err(StepRefused::Entry { bytes: limits::ENTRY_BYTES_MAX + 1 })
    );
    step(limits::ENTRY_BYTES_MAX - beside).unwrap();
}

/// Steps 1, 2 and 3 each derive a record for partition 1 of LINES, in shard 5.
fn three_steps() -> Mill {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    for from in 0..3 {
        let sources = [source(from)];
        let effects = Effects { emitted: vec![emitted(0, key_for(1))], ..Effects::default() };
        mill.step(&proposed(&sources, from, effects)).unwrap();
    }
    mill.commit();
    mill
}

#[test]
fn what_is_shipped_arrives_once_and_in_order() {
    let mut source = three_steps();
    let all: Vec<_> = (2..5).flat_map(|index| shipments(&source, index)).collect();
    let mut target = Mill::holding(&[at(2, 1)]);
    let gap = |step| Reception::Gap {
        last: LinkRow { generation: Generation(u32::from(step > 0)), step: StepNumber(step) },
    };

    assert_eq!(target.receive(&all[1..2]), [gap(0)], "step 2 names step 1, which is not here");
    assert_eq!(target.receive(&all[..2]), [Reception::Taken, Reception::Taken], "one entry takes both");
    assert_eq!(
        target.receive(&all[..2]),
        [Reception::Known, Reception::Known],
        "sent again before the commit"
    );
    target.lose_uncommitted();
    assert_eq!(target.receive(&all[..1]), [Reception::Taken], "what was lost is taken anew");
    assert_eq!(target.receive(&all[2..]), [gap(1)]);
    assert_eq!(target.receive(&all), [Reception::Known, Reception::Taken, Reception::Taken]);
    target.commit();
    assert_eq!(target.end(at(2, 1)), 3);
    let arrived = target.log.last().unwrap();
    for placed in &arrived.batches {
        assert!(is_sealed_for(&placed.envelope, placed.at, &BatchHeader::parse(&placed.batch).unwrap()));
    }

    assert_eq!(source.pending(ShardId(5)), 3);
    let word = |step| Shipped { to: ShardId(5), task: TASK, step: StepNumber(step) };
    source.shipped(&[word(1), word(2), word(3)]);
    source.commit();
    assert_eq!(source.pending(ShardId(5)), 0);
}

#[test]
fn an_older_generation_is_fenced_behind_a_newer_one() {
    let source = three_steps();
    let mut target = Mill::holding(&[at(2, 1)]);
    let mut newer = shipments(&source, 2);
    newer[0].link.generation = Generation(2);
    assert_eq!(target.receive(&newer), [Reception::Taken]);
    assert_eq!(target.receive(&shipments(&source, 3)), [Reception::Fenced]);
    let mut lost = shipments(&source, 3);
    lost[0].batch.at = at(2, 3);
    assert_eq!(target.receive(&lost), [Reception::NoPartition]);
}

proptest! {
    /// A producer sends ten batches of one to three records. Each may be sent several times, at any later
    /// moment within the window, and commits fall anywhere: what is written is each batch once, in order.
    #[test]
    fn retries_never_double_or_reorder(sizes in proptest::collection::vec(1u32..4, 10), again in proptest::collection::vec((0usize..10, any::<bool>()), 0..60)) {
        let mut mill = Mill::holding(&[ORDERS]);
        let first = |number: usize| sizes[..number].iter().sum::<u32>();
        let mut written = 0;
        for (number, commits) in (0..10).map(|number| (number, true)).chain(again.clone()).chain((0..10).map(|number| (number, false))) {
            let sent = batch(ProducerId::WIDE_BIT | 1, 0, first(number) as i32, sizes[number]);
            let offset = u64::from(first(number));
            let verdict = mill.produce(sent);
            if number == written {
                prop_assert_eq!(verdict, append(offset));
                written += 1;
            } else {
                prop_assert_eq!(verdict, duplicate(offset));
            }
            if commits {
                mill.commit();
            }
        }
        mill.commit();
        prop_assert_eq!(mill.end(ORDERS), u64::from(first(10)));
    }
}
