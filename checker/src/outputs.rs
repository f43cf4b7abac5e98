//! Every batch that a step derived lies in its partition exactly once, in the order of the steps, and nothing else of
//! that task does.
//!
//! What stays in the step's own shard lies there by the entry itself, and is compared when the step is run again. So
//! here it is about what went to other shards: what was sent is held against what lies.

use std::collections::BTreeMap;

use tidemill_core::envelope::{Derivation, Envelope, Origin};
use tidemill_core::ids::{StepNumber, TaskId};
use tidemill_core::tables::{Key, View};
use tidemill_protocol::ids::TopicPartition;

use crate::ledger::{Ledger, Lying, Sent, unstamped};
use crate::violation::{Report, Violation};

type Chain = (TopicPartition, TaskId);

/// Compares what was sent with what lies.
pub(crate) fn check(ledgers: &[Ledger], report: &mut Report) {
    let mut sent: BTreeMap<Chain, Vec<(&Sent, bool)>> = BTreeMap::new();
    for ledger in ledgers {
        for one in &ledger.sent {
            sent.entry((one.placed.at, one.task)).or_default().push((one, is_pending(ledger, one)));
        }
    }
    let mut lies: BTreeMap<Chain, Vec<(StepNumber, &Lying, Derivation)>> = BTreeMap::new();
    for (at, lying) in ledgers.iter().flat_map(|ledger| &ledger.lying) {
        for one in lying {
            if let Ok(Envelope { origin: Origin::Task(derivation), .. }) =
                Envelope::parse(&one.placed.envelope)
            {
                let of_chain = lies.entry((*at, derivation.task)).or_default();
                of_chain.push((derivation.step, one, derivation));
            }
        }
    }
    for ((at, task), lying) in &lies {
        in_order(*at, *task, lying, report);
    }
    for ((at, task), sent) in sent {
        let lying = lies.remove(&(at, task)).unwrap_or_default();
        compare(at, task, &sent, &lying, report);
    }
}

/// Whether the shard of a step still has to ship this.
fn is_pending(ledger: &Ledger, one: &Sent) -> bool {
    let key = one.placed.away.map(|to| Key::Pending(to, one.task, one.step).encode());
    key.is_some_and(|key| matches!(ledger.tables.get(&key), Ok(Some(_))))
}

fn in_order(
    at: TopicPartition,
    task: TaskId,
    lying: &[(StepNumber, &Lying, Derivation)],
    report: &mut Report,
) {
    for pair in lying.windows(2) {
        let (one, next) = (pair[0].0, pair[1].0);
        if next <= one {
            let what = format!("it lies behind a batch of step {}", one.0);
            report.violations.push(Violation::Output { task, step: next, at, what });
        }
    }
}

fn compare(
    at: TopicPartition,
    task: TaskId,
    sent: &[(&Sent, bool)],
    lying: &[(StepNumber, &Lying, Derivation)],
    report: &mut Report,
) {
    let mut arrived = lying.iter().peekable();
    for (one, is_pending) in sent {
        let step = one.step;
        let mut say = |what: &str| {
            report.violations.push(Violation::Output { task, step, at, what: what.to_owned() });
        };
        while let Some((stranger, _, _)) = arrived.next_if(|(lies, _, _)| *lies < step) {
            say(&format!("before it lies a batch of step {}, which derived none", stranger.0));
        }
        match arrived.next_if(|(lies, _, _)| *lies == step) {
            None if arrived.peek().is_some() => say("it is not there, and batches of later steps are"),
            // On its way: nothing of a later step is there.
            None if *is_pending => report.pending += 1,
            None => say("it is not there, and its shard was told that it is"),
            Some((_, there, derivation)) => {
                report.crossed += 1;
                if unstamped(&there.placed.batch) != unstamped(&one.placed.batch) {
                    say("its records are not those that the step derived");
                }
                match Envelope::parse(&one.placed.envelope) {
                    Ok(Envelope { origin: Origin::Task(derived), .. }) if derived == *derivation => {}
                    _ => say("its lineage is not what the step says"),
                }
                if there.header.record_count as usize != derivation.lineage.len() {
                    say("its lineage has another number of records");
                }
            }
        }
    }
    for (step, _, _) in arrived {
        let what = "it lies here, and the step derived none".to_owned();
        report.violations.push(Violation::Output { task, step: *step, at, what });
    }
}
