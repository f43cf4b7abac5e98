//! Log starts move by commands, and never back.

use proptest::prelude::*;
use tidemill_core::rejection::Rejection;
use tidemill_core::shard;
use tidemill_core::shard::control::Control;
use tidemill_core::shard::trim::{self, Trim, Verdict};
use tidemill_protocol::ids::{Offset, TopicPartition};

use crate::mill::{Mill, ORDERS, at, batch};

fn to(at: TopicPartition, before: u64) -> Trim {
    Trim { topic: at.topic, partition: at.partition.0, before }
}

fn trim(mill: &mut Mill, trims: &[Trim]) -> Vec<Verdict> {
    let (verdicts, entry) = mill.decide(|deciding| trim::decide(deciding, trims)).unwrap();
    entry.into_iter().for_each(|entry| mill.propose(entry));
    verdicts
}

fn start(mill: &Mill, at: TopicPartition) -> u64 {
    shard::partition(&mill.applied, at).unwrap().unwrap().log_start.0
}

#[test]
fn a_log_start_moves_up_once_that_is_committed() {
    let mut mill = Mill::holding(&[ORDERS, at(1, 1)]);
    mill.produce(batch(9, 0, 0, 5));
    assert_eq!(trim(&mut mill, &[to(ORDERS, 3)]), [Ok(Offset(3))]);
    assert_eq!(start(&mill, ORDERS), 0, "nothing is committed yet");
    mill.commit();
    assert_eq!((start(&mill, ORDERS), mill.end(ORDERS)), (3, 5));
    assert_eq!(start(&mill, at(1, 1)), 0);

    let entries = mill.log.len();
    assert_eq!(trim(&mut mill, &[to(ORDERS, 1), to(ORDERS, 3)]), [Ok(Offset(3)), Ok(Offset(3))]);
    mill.commit();
    assert_eq!((start(&mill, ORDERS), mill.log.len()), (3, entries), "what moves nothing is not written");

    // All of it; what comes then is the first that is there.
    assert_eq!(trim(&mut mill, &[to(ORDERS, 5)]), [Ok(Offset(5))]);
    mill.produce(batch(9, 0, 5, 2));
    mill.commit();
    assert_eq!((start(&mill, ORDERS), mill.end(ORDERS)), (5, 7));
}

#[test]
fn what_is_refused_leaves_the_others_be() {
    let mut mill = Mill::holding(&[ORDERS, at(1, 1)]);
    mill.produce(batch(9, 0, 0, 5));
    let verdicts = trim(&mut mill, &[to(at(9, 0), 0), to(at(1, 1), 1), to(ORDERS, 4), to(ORDERS, u64::MAX)]);
    let beyond = |asked, end| Rejection::OffsetOutOfRange { asked, start: Offset(0), end: Offset(end) };
    let missing = Rejection::NoPartition(at(9, 0));
    assert_eq!(verdicts, [Err(missing), Err(beyond(1, 0)), Ok(Offset(4)), Err(beyond(i64::MAX, 5))]);
    mill.commit();
    assert_eq!((start(&mill, ORDERS), start(&mill, at(1, 1))), (4, 0));
}

proptest! {
    #[test]
    fn a_log_start_is_never_beyond_the_end_and_never_goes_back(steps in proptest::collection::vec((0u64..40, any::<bool>()), 1..20)) {
        let mut mill = Mill::holding(&[ORDERS]);
        let mut sequence = 0;
        for (before, is_decided) in steps {
            mill.produce(batch(9, 0, sequence, 2));
            sequence += 2;
            mill.commit();
            let last = start(&mill, ORDERS);
            if is_decided {
                trim(&mut mill, &[to(ORDERS, before)]);
            } else {
                // Whatever the log says: apply refuses nothing and stays within what there is.
                mill.control(&Control::Trim { partitions: vec![to(ORDERS, before), to(at(9, 0), before)], passes_tasks: true });
            }
            mill.commit();
            let now = start(&mill, ORDERS);
            let wanted = if is_decided && before > mill.end(ORDERS) { last } else { before.min(mill.end(ORDERS)) };
            prop_assert_eq!(now, wanted.max(last));
        }
    }
}
