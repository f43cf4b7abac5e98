//! Stories of a task's timers and its two clocks.

use bytes::Bytes;
use tidemill_core::envelope::{Envelope, Origin};
use tidemill_core::event_time::{EventTimeRow, Observation, Writer};
use tidemill_core::plugin::{Effects, Timer, TimerChange, TimerKind};
use tidemill_core::seams::Timestamp;
use tidemill_core::shard::step::{Proposed, Source, StepRefused};
use tidemill_core::tables::{self, Key};
use tidemill_core::timers;
use tidemill_protocol::ids::{Offset, Position};

use crate::mill::*;

fn timer(name: &'static str, at_ms: i64) -> Timer {
    Timer { kind: TimerKind::EventTime, name: Bytes::from_static(name.as_bytes()), at_ms }
}

/// A step over one record with this timestamp, which programs outside wrote.
fn timed(sources: &[Source], from: u64, timestamp_ms: i64, timers: Vec<TimerChange>) -> Proposed<'_> {
    let seen = Observation { input: 0, writer: Writer::Outside, at_ms: timestamp_ms };
    let effects = Effects { timers, ..Effects::default() };
    Proposed { time: Timestamp(from), observed: vec![seen], ..proposed(sources, from, effects) }
}

fn set_at(name: &'static str, at_ms: i64) -> TimerChange {
    TimerChange::Set { timer: timer(name, at_ms), parent: 0 }
}

fn due(mill: &Mill) -> Vec<(Timer, Position)> {
    let clocks = tables::read::<EventTimeRow>(&mill.applied, &Key::EventTime(TASK)).unwrap().unwrap();
    let due = timers::due(&mill.applied, TASK, &clocks, 10).unwrap();
    due.into_iter().map(|(timer, by)| (timer, by.source.position)).collect()
}

#[test]
fn a_timer_is_due_when_its_time_has_come_and_fires_once() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let set = vec![set_at("moved", 100), set_at("late", 900), set_at("soon", 90)];
    mill.step(&timed(&sources, 0, 50, set)).unwrap();
    let later = [source(1)];
    let cancel = TimerChange::Cancel { kind: TimerKind::EventTime, name: Bytes::from_static(b"late") };
    mill.step(&timed(&later, 1, 400, vec![set_at("moved", 300), cancel])).unwrap();
    mill.commit();
    assert_eq!(
        due(&mill),
        [(timer("soon", 90), source(0).position), (timer("moved", 300), source(1).position)]
    );

    let fires = |fired: Vec<Timer>, timers| {
        let effects = Effects { emitted: vec![emitted(0, key_for(0))], state: vec![], timers };
        let step = proposed(&sources, 2, effects);
        Proposed { to: step.from, positions: vec![Offset(2)], fired, ..step }
    };
    mill.step(&fires(vec![timer("soon", 90)], vec![set_at("soon", 95)])).unwrap();
    let twice = mill.step(&fires(vec![timer("soon", 90)], vec![]));
    assert_eq!(twice, Err(StepRefused::Fenced), "it was set anew, for another time");
    mill.commit();
    assert_eq!(due(&mill).len(), 2);
    let entry = mill.log.last().unwrap();
    match Envelope::parse(&entry.batches[0].envelope).unwrap().origin {
        Origin::Task(derivation) => {
            assert_eq!(derivation.event_time_watermark_ms, Some(400));
            assert_eq!(derivation.lineage[0].parent, source(0).position, "the record that set it");
        }
        Origin::Producer => panic!("a derived batch says so"),
    }
}

#[test]
fn silence_makes_the_timers_due_that_are_set_by_then() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    mill.step(&timed(&sources, 0, 50, vec![set_at("window", 5_000)])).unwrap();
    mill.commit();
    assert_eq!(due(&mill), []);
    let step = proposed(&sources, 1, Effects { timers: vec![set_at("again", 6_000)], ..Effects::default() });
    let tick = Proposed {
        to: step.from,
        positions: vec![Offset(1)],
        time: Timestamp(2_000),
        fired: vec![timer("window", 5_000)],
        ..step
    };
    mill.step(&tick).unwrap();
    mill.commit();
    assert_eq!(due(&mill), [], "what a timer sets while all are silent waits for a record");
}

#[test]
fn a_due_timer_is_found_behind_any_number_that_are_not() {
    let mut mill = Mill::holding(&[ORDERS, at(2, 0), at(3, 0)]);
    start(&mut mill, 1);
    let sources = [source(0)];
    let set = vec![set_at("first", 5_000), set_at("last", 9_000)];
    mill.step(&timed(&sources, 0, 50, set)).unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("again {number}")).collect();
    let again = names.iter().map(|name| {
        let timer = Timer { kind: TimerKind::EventTime, name: name.clone().into(), at_ms: 6_000 };
        TimerChange::Set { timer, parent: 0 }
    });
    let step = proposed(&sources, 1, Effects { timers: again.collect(), ..Effects::default() });
    let tick = Proposed {
        to: step.from,
        positions: vec![Offset(1)],
        time: Timestamp(2_000),
        fired: vec![timer("first", 5_000)],
        ..step
    };
    mill.step(&tick).unwrap();
    mill.commit();
    let clocks = tables::read::<EventTimeRow>(&mill.applied, &Key::EventTime(TASK)).unwrap().unwrap();
    let due = timers::due(&mill.applied, TASK, &clocks, 1).unwrap();
    assert_eq!(due.iter().map(|(timer, _)| timer.clone()).collect::<Vec<_>>(), [timer("last", 9_000)]);
}
