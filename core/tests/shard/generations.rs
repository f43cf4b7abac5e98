//! Stories of a task's generations: paused, going on, beginning anew, removed.

use bytes::Bytes;
use tidemill_core::effect::Effect;
use tidemill_core::event_time::EventTimeRow;
use tidemill_core::ids::{Digest, Generation, LogIndex, ShardId, StepNumber};
use tidemill_core::plugin::{Effects, Timer, TimerChange, TimerKind};
use tidemill_core::rows::{Fate, LetterRow, TaskRow, TaskStatus};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::control::Control;
use tidemill_core::shard::produce::{Produced, Verdict};
use tidemill_core::shard::ship::{Reception, Shipment};
use tidemill_core::shard::step::{self, Proposed, Source, StepRefused, TaskState};
use tidemill_core::tables::{self, Key, MemoryTables, View};
use tidemill_core::task::{KnownSpec, TaskSpec};
use tidemill_protocol::ids::Offset;

use crate::mill::*;

/// A step of a generation over one record: it keeps something, sets a timer, and derives something for shard 5.
fn step(generation: u32, sources: &[Source], from: u64) -> Proposed<'_> {
    let timer = Timer { kind: TimerKind::AppendTime, name: Bytes::from_static(b"soon"), at_ms: 9_000_000 };
    let effects = Effects {
        emitted: vec![emitted(0, key_for(1))],
        state: vec![set("balance", "12")],
        timers: vec![TimerChange::Set { timer, parent: 0 }],
    };
    Proposed { generation: Generation(generation), ..proposed(sources, from, effects) }
}

fn with_two_steps() -> Mill {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    for from in 0..2 {
        mill.step(&step(1, &[source(from)], from)).unwrap();
    }
    mill.commit();
    mill
}

fn balance(mill: &Mill) -> Option<Bytes> {
    TaskState { task: TASK, head: &mill.applied }.get(b"balance").unwrap()
}

fn timers_and_clocks(tables: &MemoryTables) -> (usize, bool) {
    let timer = Key::Timer(TASK, TimerKind::AppendTime, Bytes::new()).encode();
    let found = tables.scan(&timer, tables::end_of_prefix(&timer).as_deref(), 10).unwrap();
    (found.len(), tables::read::<EventTimeRow>(tables, &Key::EventTime(TASK)).unwrap().is_some())
}

fn anew(generation: u32, restarted: u32, emptied: u32) -> TaskSpec {
    TaskSpec { restarted: Generation(restarted), emptied: Generation(emptied), ..spec(generation) }
}

#[test]
fn what_the_caller_knows_counts_only_while_it_stands() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let old = KnownSpec::read(&mill.applied, TASK.deployment).unwrap().unwrap();
    start_as(&mut mill, TaskSpec { digest: Digest([8; 32]), ..spec(2) });
    let new = KnownSpec::read(&mill.applied, TASK.deployment).unwrap().unwrap();
    assert!(!old.stands(&mill.applied).unwrap() && new.stands(&mill.applied).unwrap());
    let sources = [source(0)];
    let decided = |known| {
        let step = Proposed { known, ..step(2, &sources, 0) };
        mill.decide(|deciding| step::decide(deciding, &step)).unwrap().unwrap().encode()
    };
    assert_eq!(decided(None), decided(Some(&new)));
    assert_eq!(decided(None), decided(Some(&old)), "the one in the tables counts, with its component");
}

#[test]
fn a_paused_task_takes_no_step_and_goes_on_where_it_stood() {
    let mut mill = with_two_steps();
    start_as(&mut mill, TaskSpec { paused: true, ..spec(2) });
    assert_eq!(mill.task().status, TaskStatus::Paused);
    for generation in [1, 2] {
        assert_eq!(mill.step(&step(generation, &[source(2)], 2)), Err(StepRefused::Fenced));
    }
    start(&mut mill, 3);
    let before = mill.task();
    assert_eq!(
        (before.status, before.cursor.index, before.step),
        (TaskStatus::Running, LogIndex(2), StepNumber(2))
    );
    assert_eq!(balance(&mill).as_deref(), Some(&b"12"[..]));
    mill.step(&step(3, &[source(2)], 2)).unwrap();
}

#[test]
fn what_begins_anew_leaves_its_place_and_what_it_sends_still_follows_what_it_sent() {
    let mut mill = with_two_steps();
    start_as(&mut mill, anew(2, 2, 0));
    let row = mill.task();
    assert_eq!((row.cursor.index, row.positions[0].1, row.step), (LogIndex(0), Offset(0), StepNumber(2)));
    assert_eq!(balance(&mill).as_deref(), Some(&b"12"[..]), "its state stays");
    assert_eq!(timers_and_clocks(&mill.applied), (1, true));
    assert_eq!(mill.step(&step(1, &[source(2)], 2)), Err(StepRefused::Fenced));
    mill.step(&step(2, &[source(0)], 0)).unwrap();
    mill.commit();

    // Steps 1 and 2 of the first generation and step 3 of the second arrive as one chain.
    let steps =
        mill.log.iter().enumerate().filter(|(_, entry)| entry.batches.iter().any(|b| b.away.is_some()));
    let indexes: Vec<_> = steps.map(|(index, _)| index).collect();
    let all: Vec<Shipment> = indexes.into_iter().flat_map(|index| shipments(&mill, index)).collect();
    let mut target = Mill::holding(&[at(2, 1)]);
    assert!(
        matches!(target.receive(&all[2..])[..], [Reception::Gap { .. }]),
        "what was sent before comes first"
    );
    assert_eq!(target.receive(&all), [Reception::Taken; 3]);
}

#[test]
fn a_fresh_state_has_nothing_of_what_was_kept() {
    let mut mill = with_two_steps();
    start_as(&mut mill, anew(2, 2, 2));
    assert_eq!(balance(&mill), None);
    assert_eq!(timers_and_clocks(&mill.applied), (0, false));
    // It is emptied once, not by every generation that follows.
    mill.step(&step(2, &[source(0)], 0)).unwrap();
    mill.commit();
    start_as(&mut mill, anew(3, 2, 2));
    assert_eq!(balance(&mill).as_deref(), Some(&b"12"[..]));
    assert_eq!(mill.task().cursor.index, LogIndex(1));
}

#[test]
fn a_shard_that_missed_generations_catches_up_with_what_they_asked_for() {
    let mut mill = with_two_steps();
    // Generation 2 began anew, 3 with a fresh state, 4 changed the component: the shard hears of 4 alone.
    start_as(&mut mill, anew(4, 3, 3));
    assert_eq!((mill.task().cursor.index, balance(&mill)), (LogIndex(0), None));
    let before = mill.applied.clone();
    start_as(&mut mill, anew(2, 2, 2));
    let changed =
        before.rows().filter(|(key, value)| mill.applied.get(key).unwrap().as_ref() != Some(*value));
    assert!(changed.count() <= 1, "a command that comes late moves the shard's clock and nothing else");
}

#[test]
fn a_dead_letter_is_discarded_once_and_only_where_one_lies() {
    let mut mill = Mill::holding(&[at(3, 0)]);
    assert_eq!(
        mill.produce(Produced { at: at(3, 0), ..batch(9, 0, 0, 2) }),
        Verdict::Append { base_offset: Offset(0) }
    );
    let discard = Control::DiscardLetters { topic: DEAD, partition: 0, offsets: vec![1, 2] };
    mill.control(&discard);
    mill.commit();
    let fate = |mill: &Mill, offset| {
        tables::read::<LetterRow>(&mill.applied, &Key::Letter(at(3, 0), Offset(offset))).unwrap()
    };
    let then = LetterRow { fate: Fate::Discarded, at: Timestamp(1_000) };
    assert_eq!([0, 1, 2].map(|offset| fate(&mill, offset)), [None, Some(then), None], "no letter lies at 2");
    mill.now = Timestamp(2_000);
    mill.control(&discard);
    mill.commit();
    assert_eq!(fate(&mill, 1), Some(then));
}

#[test]
fn removed_tasks_leave_what_they_derived() {
    let mut mill = with_two_steps();
    mill.control(&Control::RemoveTasks { deployment: TASK.deployment });
    assert_eq!(mill.step(&step(1, &[source(2)], 2)), Err(StepRefused::Fenced), "also before the commit");
    assert!(mill.commit().contains(&Effect::TaskStopped { task: TASK }));
    assert_eq!(tables::read::<TaskRow>(&mill.applied, &Key::Task(TASK)).unwrap(), None);
    assert_eq!(tables::read::<TaskSpec>(&mill.applied, &Key::Spec(TASK.deployment)).unwrap(), None);
    assert_eq!((balance(&mill), timers_and_clocks(&mill.applied)), (None, (0, false)));
    assert_eq!(mill.pending(ShardId(5)), 2, "what is on its way arrives");
    let of_task = |key: &Bytes| matches!(Key::decode(key).unwrap(), Key::Outbound(..) | Key::Due(..));
    assert!(!mill.applied.rows().any(|(key, _)| of_task(key)));
}
