//! Traces, held against what reading all logs finds.

use std::collections::{BTreeMap, BTreeSet};

use tidemill_checker::records;
use tidemill_host::broker::Broker;
use tidemill_host::trace::{Bounds, Traced, trace};
use tidemill_protocol::ids::Position;

use crate::proof::Kept;
use crate::story::Broken;

/// Records of which a trace is looked at, about.
const TRACED: usize = 60;
const ALL: Bounds = Bounds { records: usize::MAX, depth: u32::MAX };

/// Traces some records, and finds by each what its lineage says.
pub async fn hold(broker: &Broker, kept: &Kept) -> Result<(), Broken> {
    let all = records(&kept.history).map_err(|violation| Broken::Violated(violation.to_string()))?;
    let mut parents = BTreeMap::new();
    let mut children: BTreeMap<Position, Vec<Position>> = BTreeMap::new();
    for told in &all {
        let position = Position { at: told.at, offset: told.record.offset };
        let parent = told.derived.as_ref().map(|(.., line)| line.parent);
        parents.insert(position, parent);
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(position);
        }
    }
    let named = |position: &Position| {
        (kept.names[&position.at.topic].clone(), position.at.partition.0, position.offset.0)
    };
    let view = broker.catalog.view();
    for asked in parents.keys().step_by(1 + parents.len() / TRACED) {
        // Each record with the one that it hangs below.
        let mut expected = BTreeSet::new();
        let mut up = *asked;
        while let Some(parent) = parents[&up] {
            expected.insert((named(&up), Some(named(&parent))));
            up = parent;
        }
        expected.insert((named(&up), None));
        let mut below = vec![*asked];
        while let Some(parent) = below.pop() {
            for child in children.get(&parent).into_iter().flatten() {
                expected.insert((named(child), Some(named(&parent))));
                below.push(*child);
            }
        }
        let found = trace(&view, &broker.shards, *asked, ALL).await?;
        let found = found.ok_or_else(|| Broken::Lost(format!("{asked:?}")))?;
        let place = |traced: &Traced| (traced.topic.clone(), traced.partition, traced.offset);
        let hangs =
            |traced: &Traced| (place(traced), traced.parent.map(|parent| place(&found.records[parent])));
        let hanging: BTreeSet<_> = found.records.iter().map(hangs).collect();
        let is_once = hanging.len() == found.records.len();
        if hanging != expected
            || !is_once
            || !found.is_complete
            || place(&found.records[found.asked]) != named(asked)
        {
            return Err(Broken::Violated(format!("the trace of {:?} is {found:#?}", named(asked))));
        }
        if found.records.len() > found.asked + 1 {
            cut(broker, *asked, found.records.len() - 1).await?;
        }
    }
    Ok(())
}

/// Traces a record that has a descendant more than may be shown: what is shown of them is in its order.
async fn cut(broker: &Broker, asked: Position, records: usize) -> Result<(), Broken> {
    let found = trace(&broker.catalog.view(), &broker.shards, asked, Bounds { records, ..ALL }).await?;
    let found = found.ok_or_else(|| Broken::Lost(format!("{asked:?}")))?;
    let is_in_order =
        |one: &Traced, two: &Traced| one.parent != two.parent || one.append_time_ms <= two.append_time_ms;
    let are_in_order = found.records.windows(2).all(|two| is_in_order(&two[0], &two[1]));
    if found.is_complete || found.records.len() != records || !are_in_order {
        return Err(Broken::Violated(format!("the trace of {asked:?}, cut to {records}, is {found:#?}")));
    }
    Ok(())
}
