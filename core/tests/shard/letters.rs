//! Stories of dead letters that are given to their task again.

use tidemill_core::effect::Effect;
use tidemill_core::entry::Entry;
use tidemill_core::ids::{Cursor, Generation, LogIndex, ShardId};
use tidemill_core::plugin::{Effects, Emitted};
use tidemill_core::rows::{Fate, LetterRow, TaskStatus};
use tidemill_core::shard::control::Control;
use tidemill_core::shard::letters::{self, NotRedriven, Redrive, Redriven, Verdict};
use tidemill_core::shard::step::{self, DEAD_LETTER, Outcome, Proposed, Source, StepRefused};
use tidemill_core::shard::trim::{self, Trim};
use tidemill_core::tables::{self, Key};
use tidemill_protocol::ids::{Offset, Position, TopicId};

use crate::mill::*;

const LETTERS: tidemill_protocol::ids::TopicPartition = at(3, 0);

fn letter(offset: u64) -> Position {
    Position { at: LETTERS, offset: Offset(offset) }
}

fn gave_up() -> Outcome {
    Outcome::DeadLettered { reason: "no such customer".into() }
}

/// The effects of a step that gives up its event; by its key, the letter would go to partition 1 of two.
fn dead() -> Effects {
    let letter = Emitted { output: DEAD_LETTER, ..emitted(0, key_for(1)) };
    Effects { emitted: vec![letter], ..Effects::default() }
}

/// A task of two that gave up its first records.
fn with_letters(count: u64) -> Mill {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), LETTERS]);
    let mut spec = spec(1);
    spec.dead_letter.shards.push(ShardId(5));
    start_as(&mut mill, spec);
    for from in 0..count {
        mill.step(&Proposed { outcome: gave_up(), ..proposed(&[source(from)], from, dead()) }).unwrap();
    }
    mill.commit();
    mill
}

fn wanted(source: TopicId, offsets: &[u64]) -> Redrive {
    let letters = offsets.iter().map(|offset| Redriven { offset: *offset, source }).collect();
    Redrive { deployment: TASK.deployment, topic: DEAD, partition: 0, letters }
}

fn redrive(mill: &mut Mill, offsets: &[u64]) -> Vec<Verdict> {
    let wanted = wanted(ORDERS.topic, offsets);
    let (verdicts, entry) = mill.decide(|deciding| letters::decide(deciding, &wanted)).unwrap();
    entry.into_iter().for_each(|entry: Entry| mill.propose(entry));
    verdicts
}

/// A step that is given a letter, at `stands`.
fn again<'a>(
    sources: &'a [Source],
    number: u64,
    stands: u64,
    outcome: Outcome,
    effects: Effects,
) -> Proposed<'a> {
    let stands = Cursor { index: LogIndex(stands), skip: 0 };
    let step = proposed(sources, 0, effects);
    let positions = vec![Offset(stands.index.0)];
    Proposed { from: stands, to: stands, positions, outcome, letter: Some(letter(number)), ..step }
}

fn handled() -> Effects {
    Effects { emitted: vec![emitted(0, key_for(0))], ..Effects::default() }
}

fn fate(mill: &Mill, offset: u64) -> Option<Fate> {
    let row = tables::read::<LetterRow>(&mill.applied, &Key::Letter(LETTERS, Offset(offset))).unwrap();
    row.map(|row| row.fate)
}

fn attempts(mill: &Mill, offset: u64) -> Option<u32> {
    letters::waiting(&mill.applied, letter(offset)).unwrap().map(|row| row.attempts)
}

#[test]
fn a_letter_lies_in_the_partition_of_its_record_whatever_its_key() {
    let mill = with_letters(1);
    assert_eq!(mill.end(LETTERS), 1);
    assert!(mill.log.iter().all(|entry| entry.batches.iter().all(|batch| batch.away.is_none())));
}

#[test]
fn a_letter_is_given_once_and_nothing_is_consumed() {
    let mut mill = with_letters(2);
    assert_eq!(mill.step(&again(&[source(0)], 0, 2, Outcome::Done, handled())), Err(StepRefused::Withdrawn));
    assert_eq!(redrive(&mut mill, &[1, 0, 2]), [Ok(()), Ok(()), Err(NotRedriven::NotThere)]);
    assert_eq!(redrive(&mut mill, &[0]), [Err(NotRedriven::Waits)], "also before the commit");
    assert!(mill.commit().contains(&Effect::Redriven { at: LETTERS }));
    let first = letters::first_waiting(&mill.applied, LETTERS).unwrap().map(|(letter, _)| letter);
    assert_eq!(first, Some(letter(0)), "in the order in which they were given up");

    let before = mill.task();
    mill.step(&again(&[source(0)], 0, 2, Outcome::Done, handled())).unwrap();
    assert_eq!(mill.step(&again(&[source(0)], 0, 2, Outcome::Done, handled())), Err(StepRefused::Withdrawn));
    mill.commit();
    let after = mill.task();
    assert_eq!((after.cursor, &after.positions), (before.cursor, &before.positions));
    assert_eq!((fate(&mill, 0), fate(&mill, 1), mill.end(at(2, 0))), (Some(Fate::Redriven), None, 1));
    let meta = step::meta(mill.log.last().unwrap()).unwrap();
    assert_eq!(meta.letter, Some(letter(0)));
    assert_eq!(redrive(&mut mill, &[0, 1]), [Err(NotRedriven::Redriven), Err(NotRedriven::Waits)]);
}

#[test]
fn what_fails_again_is_a_new_letter_and_counts_its_own_attempts() {
    let mut mill = with_letters(1);
    // An event waits for its second attempt when the letter is redriven.
    let failed = |attempts| Outcome::Failed { attempts, reason: "not now".into() };
    let second = [source(1)];
    let step = proposed(&second, 1, Effects::default());
    mill.step(&Proposed { to: step.from, positions: vec![Offset(1)], outcome: failed(1), ..step }).unwrap();
    redrive(&mut mill, &[0]);
    mill.step(&again(&[source(0)], 0, 1, failed(2), Effects::default())).unwrap();
    mill.commit();
    assert_eq!((mill.task().attempts, attempts(&mill, 0)), (1, Some(2)));
    // A new generation begins with the first attempt.
    start(&mut mill, 2);
    assert_eq!((mill.task().attempts, attempts(&mill, 0)), (0, Some(0)));
    let first = [source(0)];
    let gives_up = again(&first, 0, 1, gave_up(), dead());
    mill.step(&Proposed { generation: Generation(2), ..gives_up }).unwrap();
    mill.commit();
    assert_eq!((fate(&mill, 0), fate(&mill, 1), mill.end(LETTERS)), (Some(Fate::FailedAgain), None, 2));
    assert_eq!(redrive(&mut mill, &[0, 1]), [Err(NotRedriven::FailedAgain), Ok(())]);
}

#[test]
fn a_letter_that_stops_its_task_waits_until_that_goes_on() {
    let mut mill = with_letters(1);
    redrive(&mut mill, &[0]);
    let stops = Outcome::Stopped { reason: "never".into() };
    mill.step(&again(&[source(0)], 0, 1, stops, Effects::default())).unwrap();
    mill.commit();
    assert_eq!((mill.task().status, attempts(&mill, 0)), (TaskStatus::Stopped, Some(0)));
    assert_eq!(mill.step(&again(&[source(0)], 0, 1, Outcome::Done, handled())), Err(StepRefused::Fenced));
    start(&mut mill, 2);
    let first = [source(0)];
    let goes_on = again(&first, 0, 1, Outcome::Done, handled());
    mill.step(&Proposed { generation: Generation(2), ..goes_on }).unwrap();
}

#[test]
fn a_letter_that_waits_can_be_discarded_trimmed_and_left_behind() {
    let mut mill = with_letters(4);
    redrive(&mut mill, &[0, 1, 2, 3]);
    mill.control(&Control::DiscardLetters { topic: DEAD, partition: 0, offsets: vec![1] });
    let one = [source(1)];
    assert_eq!(mill.step(&again(&one, 1, 4, Outcome::Done, handled())), Err(StepRefused::Withdrawn));
    mill.commit();
    assert_eq!((fate(&mill, 1), attempts(&mill, 1)), (Some(Fate::Discarded), None));
    assert_eq!(redrive(&mut mill, &[1]), [Err(NotRedriven::Discarded)]);

    let trims = [Trim { topic: DEAD, partition: 0, before: 1 }];
    let (_, entry) = mill.decide(|deciding| trim::decide(deciding, &trims)).unwrap();
    mill.propose(entry.unwrap());
    assert_eq!(mill.step(&again(&[source(0)], 0, 4, Outcome::Done, handled())), Err(StepRefused::Withdrawn));
    assert_eq!(redrive(&mut mill, &[0]), [Err(NotRedriven::NotThere)]);
    mill.commit();
    assert_eq!((attempts(&mill, 0), attempts(&mill, 2)), (None, Some(0)));

    // The plugin goes; one of its name that reads another topic comes.
    mill.control(&Control::RemoveTasks { deployment: TASK.deployment });
    mill.commit();
    assert_eq!([2, 3].map(|offset| (fate(&mill, offset), attempts(&mill, offset))), [(None, None); 2]);
    assert_eq!(redrive(&mut mill, &[2]), [Err(NotRedriven::NotRead)]);
    let mut other = spec(1);
    other.inputs[0].topic = TopicId([8; 16]);
    start_as(&mut mill, other);
    assert_eq!(redrive(&mut mill, &[2]), [Err(NotRedriven::NotRead)]);
}

#[test]
fn of_letters_that_are_not_there_nothing_is_noted() {
    let mut mill = with_letters(3);
    let trims = [Trim { topic: DEAD, partition: 0, before: 2 }];
    let (_, entry) = mill.decide(|deciding| trim::decide(deciding, &trims)).unwrap();
    mill.propose(entry.unwrap());
    mill.control(&Control::DiscardLetters { topic: DEAD, partition: 0, offsets: vec![0, 1, 2, 3] });
    mill.commit();
    let fates = [0, 1, 2, 3].map(|offset| fate(&mill, offset));
    assert_eq!(fates, [None, None, Some(Fate::Discarded), None]);
}

#[test]
fn a_generation_that_does_not_read_the_topic_leaves_letters_open() {
    let mut mill = with_letters(1);
    redrive(&mut mill, &[0]);
    mill.commit();
    let mut other = spec(2);
    other.inputs[0].topic = TopicId([8; 16]);
    start_as(&mut mill, other);
    assert_eq!((fate(&mill, 0), attempts(&mill, 0)), (None, None));
}
