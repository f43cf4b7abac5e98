//! Log starts wait for no task: one that they pass stops, or goes on where its manifest says, by the same entry.

use proptest::prelude::*;
use tidemill_core::effect::Effect;
use tidemill_core::entry::{Entry, EntryKind};
use tidemill_core::ids::{Cursor, Generation, LogIndex};
use tidemill_core::plugin::Effects;
use tidemill_core::rows::{TaskRow, TaskStatus};
use tidemill_core::shard::control::Control;
use tidemill_core::shard::step::{Outcome, Proposed, Source, StepRefused};
use tidemill_core::shard::{self, trim};
use tidemill_core::tables::{self, Key, Row};
use tidemill_core::task::{BehindLogStart, TaskSpec};
use tidemill_protocol::ids::Offset;

use crate::mill::{Mill, ORDERS, TASK, at, batch, proposed, source, spec, start_as};

fn choosing(generation: u32, choice: BehindLogStart) -> TaskSpec {
    let mut spec = spec(generation);
    spec.failure.behind_log_start = choice;
    spec
}

/// A shard with ten records, and a task that has consumed none of them.
fn with_ten(choice: BehindLogStart) -> Mill {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start_as(&mut mill, choosing(1, choice));
    mill.produce(batch(9, 0, 0, 10));
    mill.commit();
    mill
}

fn trim(mill: &mut Mill, before: u64) {
    let trims = [trim::Trim { topic: ORDERS.topic, partition: 0, before }];
    let (_, entry) = mill.decide(|deciding| trim::decide(deciding, &trims)).unwrap();
    entry.into_iter().for_each(|entry| mill.propose(entry));
}

fn head(mill: &Mill) -> TaskRow {
    tables::read(&mill.head.over(&mill.applied), &Key::Task(TASK)).unwrap().unwrap()
}

/// The next step of a task that stands as this row says: it consumes so many records.
fn step_of<'a>(row: &TaskRow, sources: &'a [Source], records: u64) -> Proposed<'a> {
    let from = row.cursor;
    Proposed {
        generation: row.generation,
        jumps: row.jumps,
        from,
        to: Cursor { index: from.index, skip: from.skip + records as u32 },
        positions: vec![row.positions[0].1.plus(records)],
        ..proposed(sources, 0, Effects::default())
    }
}

#[test]
fn by_default_it_stops_and_says_what_is_missing() {
    let mut mill = with_ten(BehindLogStart::Stop);
    let before = mill.task();
    trim(&mut mill, 4);
    let sources = [source(0)];
    assert_eq!(
        mill.step(&step_of(&before, &sources, 1)),
        Err(StepRefused::Fenced),
        "it was begun on a record that is gone"
    );
    let effects = mill.commit();
    assert!(effects.contains(&Effect::TaskStopped { task: TASK }));
    let row = mill.task();
    assert_eq!((row.status, row.positions[0].1), (TaskStatus::Stopped, Offset(0)));
    for said in
        ["orders/0 is 4", "stands at 0", "4 records", "resume lines --behind", "failure.behind-log-start"]
    {
        assert!(row.reason.contains(said), "{said}: {}", row.reason);
    }
    // It is told again when more goes.
    trim(&mut mill, 6);
    mill.commit();
    assert!(mill.task().reason.contains("6 records"), "{}", mill.task().reason);

    mill.control(&Control::PassTasks { deployment: TASK.deployment, choice: Some(BehindLogStart::Earliest) });
    mill.commit();
    let row = mill.task();
    assert_eq!((row.status, row.positions[0].1, row.passed_over), (TaskStatus::Stopped, Offset(6), 6));
    start_as(&mut mill, choosing(2, BehindLogStart::Stop));
    let row = mill.task();
    assert_eq!((row.status, row.reason.as_str()), (TaskStatus::Running, ""));
    mill.step(&step_of(&row, &sources, 4)).unwrap();
    mill.commit();
    assert_eq!(mill.task().positions[0].1, Offset(10));
}

#[test]
fn it_goes_on_where_its_manifest_says_and_counts_what_it_passed_over() {
    for (choice, position) in [(BehindLogStart::Earliest, 7), (BehindLogStart::Latest, 10)] {
        let mut mill = with_ten(choice);
        let sources = [source(0)];
        mill.step(&step_of(&head(&mill), &sources, 3)).unwrap();
        let before = head(&mill);
        mill.step(&Proposed {
            to: before.cursor,
            positions: vec![Offset(3)],
            outcome: Outcome::Failed { attempts: 1, reason: "no".into() },
            ..step_of(&before, &sources, 0)
        })
        .unwrap();
        let before = head(&mill);
        trim(&mut mill, 7);
        assert_eq!(mill.step(&step_of(&before, &sources, 1)), Err(StepRefused::Fenced), "{choice:?}");
        let effects = mill.commit();
        assert!(effects.contains(&Effect::TaskStarted { task: TASK }), "whoever runs it begins anew");
        let row = mill.task();
        assert_eq!((row.status, row.positions[0].1.0), (TaskStatus::Running, position));
        assert_eq!((row.passed_over, row.jumps, row.attempts), (position - 3, 1, 0));
        assert_eq!(row.cursor, before.cursor, "what lies between is nothing to it");
        trim(&mut mill, 7);
        mill.commit();
        assert_eq!(mill.task(), row, "what moves nothing passes nobody");
    }
}

#[test]
fn what_was_decided_and_lost_has_passed_nobody() {
    let mut mill = with_ten(BehindLogStart::Earliest);
    trim(&mut mill, 7);
    assert_eq!(head(&mill).positions[0].1, Offset(7));
    mill.lose_uncommitted();
    assert_eq!((head(&mill).positions[0].1, head(&mill).jumps), (Offset(0), 0));
}

#[test]
fn one_that_is_paused_stays_so() {
    for (choice, position, passed) in [(BehindLogStart::Stop, 0, 0), (BehindLogStart::Earliest, 8, 8)] {
        let mut mill = with_ten(choice);
        start_as(&mut mill, TaskSpec { paused: true, ..choosing(2, choice) });
        trim(&mut mill, 8);
        mill.commit();
        let row = mill.task();
        assert_eq!((row.status, row.positions[0].1.0), (TaskStatus::Paused, position));
        assert_eq!((row.passed_over, row.generation), (passed, Generation(2)));
        assert!(row.reason.contains("8 records"), "{}", row.reason);
    }
}

#[test]
fn a_task_that_has_consumed_what_goes_is_left_alone() {
    let mut mill = with_ten(BehindLogStart::Stop);
    let sources = [source(0)];
    mill.step(&step_of(&head(&mill), &sources, 7)).unwrap();
    trim(&mut mill, 7);
    mill.step(&step_of(&head(&mill), &sources, 1)).unwrap();
    mill.commit();
    let row = mill.task();
    assert_eq!((row.status, row.jumps, row.positions[0].1), (TaskStatus::Running, 0, Offset(8)));
}

/// The log of an older version is applied as that version did: it kept the records for its tasks.
#[test]
fn an_entry_of_an_older_version_passes_nobody() {
    let mut mill = with_ten(BehindLogStart::Stop);
    let before = mill.task();
    let meta = format!(
        r#"{{"command":"trim","partitions":[{{"topic":"{}","partition":0,"before":7}}]}}"#,
        ORDERS.topic
    );
    let entry = Entry { kind: EntryKind::Control, append_time: mill.now, meta: meta.into(), batches: vec![] };
    mill.propose(entry);
    mill.commit();
    assert_eq!(shard::partition(&mill.applied, ORDERS).unwrap().unwrap().log_start, Offset(7));
    assert_eq!(mill.task(), before);
    // Whoever runs it sees that, and asks.
    mill.control(&Control::PassTasks { deployment: TASK.deployment, choice: None });
    mill.commit();
    assert_eq!(mill.task().status, TaskStatus::Stopped);
}

#[test]
fn a_row_that_no_log_start_has_passed_is_what_older_versions_wrote() {
    let row = TaskRow { positions: vec![(ORDERS.topic, Offset(3))], ..TaskRow::default() };
    let passed = TaskRow { jumps: 1, passed_over: 4, ..row.clone() };
    assert_eq!(passed.encode().len(), row.encode().len() + 12);
    let mut never = row.encode().to_vec();
    never.extend([0; 12]);
    assert!(TaskRow::decode(&never.into()).is_err(), "there is one way to write a row");
    for row in [row, passed] {
        assert_eq!(TaskRow::decode(&row.encode()), Ok(row));
    }
}

#[derive(Debug, Clone)]
enum Move {
    Produce(u32),
    /// Consumes so many of the records that are there.
    Step(u64),
    /// Read now, and to be committed after the next move.
    Begin(u64),
    Trim(u64),
    Commit,
    Lose,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (1u32..5).prop_map(Move::Produce),
        (1u64..4).prop_map(Move::Step),
        (1u64..4).prop_map(Move::Begin),
        (0u64..40).prop_map(Move::Trim),
        Just(Move::Commit),
        Just(Move::Lose),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    /// Whatever happens in whatever order: each record is consumed once or passed over, and never handed out once it is
    /// below the log start.
    #[test]
    fn every_record_is_consumed_or_passed_over(moves in moves(), is_latest in any::<bool>()) {
        let choice = if is_latest { BehindLogStart::Latest } else { BehindLogStart::Earliest };
        let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
        start_as(&mut mill, choosing(1, choice));
        let sources = [source(0)];
        let mut begun: Option<(TaskRow, u64)> = None;
        for next in moves {
            let row = head(&mill);
            let partition = {
                let view = mill.head.over(&mill.applied);
                shard::partition(&view, ORDERS).unwrap().unwrap()
            };
            if let Some((then, records)) = begun.take() {
                let step = step_of(&then, &sources, records);
                let is_void = (then.cursor, then.jumps) != (row.cursor, row.jumps);
                prop_assert_eq!(mill.step(&step), if is_void { Err(StepRefused::Fenced) } else { Ok(()) });
            }
            let row = if begun.is_none() { head(&mill) } else { row };
            let there = partition.end.0 - row.positions[0].1.0.min(partition.end.0);
            match next {
                // Without a producer's id nothing is a duplicate, also not of what was lost.
                Move::Produce(records) => {
                    mill.produce(batch(-1, -1, -1, records));
                }
                Move::Step(records) if there > 0 => {
                    mill.step(&step_of(&row, &sources, records.min(there))).unwrap();
                }
                Move::Begin(records) if there > 0 => begun = Some((row, records.min(there))),
                Move::Step(_) | Move::Begin(_) => {}
                Move::Trim(before) => trim(&mut mill, before.min(partition.end.0)),
                Move::Commit => {
                    mill.commit();
                }
                Move::Lose => {
                    mill.lose_uncommitted();
                    begun = None;
                }
            }
            let row = head(&mill);
            let view = mill.head.over(&mill.applied);
            let partition = shard::partition(&view, ORDERS).unwrap().unwrap();
            prop_assert!((partition.log_start..=partition.end).contains(&row.positions[0].1));
            // A step's cursor counts what it consumed.
            prop_assert_eq!(u64::from(row.cursor.skip) + row.passed_over, row.positions[0].1.0);
        }
        prop_assert_eq!(mill.task().cursor.index, LogIndex(0));
    }
}
