//! Where derived records come from, and where they lie.
//!
//! Four things hold for every topic, whatever its records say: offsets have no holes; a parent exists and is of a topic that the plugin
//! reads; the records of one key lie in one partition, the same in all topics that share the key; and those that
//! derive from one source partition lie in the order of their parents, because a task reads in order, steps in
//! order, and ships in order.

use std::collections::BTreeMap;

use crate::history::{
    CUSTOMER_NOTIFICATIONS, CUSTOMER_ORDERS, FRAUD_ALERTS, History, LOYALTY_POINTS, PAYMENT_PROCESSING, Rec,
    SALES_BY_STORE, SHIPMENTS, SOURCES, STORE_ORDERS,
};
use crate::violation::Violations;

/// The topics whose key is the customer.
const BY_CUSTOMER: [&str; 6] =
    [CUSTOMER_ORDERS, PAYMENT_PROCESSING, SHIPMENTS, LOYALTY_POINTS, CUSTOMER_NOTIFICATIONS, FRAUD_ALERTS];
/// Those whose key is the store; that of the others is the product.
const BY_STORE: [&str; 2] = [STORE_ORDERS, SALES_BY_STORE];

pub(crate) fn check(history: &History<'_>, violations: &mut Violations) {
    let mut partition_of = BTreeMap::new();
    for (topic, sources) in SOURCES {
        let kind_of_key = (BY_CUSTOMER.contains(&topic), BY_STORE.contains(&topic));
        let (mut newest_parent, mut next_offset) = (BTreeMap::new(), BTreeMap::new());
        for record in history.topic(topic).records.values() {
            let next = next_offset.entry(record.partition).or_insert(0);
            if record.offset != *next {
                violations.add(topic, record.place(), format_args!("lies where offset {next} should be"));
            }
            *next = record.offset + 1;
            let home = partition_of.entry((kind_of_key, record.key.as_deref())).or_insert(record.partition);
            if *home != record.partition {
                let what = format_args!("its key's other records lie in partition {home}");
                violations.add(topic, record.place(), what);
            }
            let Some((source, partition, offset)) = &record.parent else {
                if !sources.is_empty() {
                    violations.add(topic, record.place(), "derives from nothing");
                }
                continue;
            };
            if !sources.contains(&source.as_str()) {
                violations.add(
                    topic,
                    record.place(),
                    format_args!("derives from {source}, which nobody reads"),
                );
            } else if record.parent().and_then(|parent| history.at(parent)).is_none() {
                let what = format_args!("derives from {source}/{partition}@{offset}, which is not there");
                violations.add(topic, record.place(), what);
            }
            if closes_a_window(topic, record) {
                continue;
            }
            let newest = newest_parent.entry((record.partition, source, partition)).or_insert(offset);
            if *newest > offset {
                violations.add(topic, record.place(), "lies behind what derives from a later record");
            }
            *newest = (*newest).max(offset);
        }
    }
}

/// A window closes when its time has come, whatever came meanwhile: only its place among those of its own store and hour
/// is told by its parent.
fn closes_a_window(topic: &str, record: &Rec) -> bool {
    let value = || record.json().unwrap_or_default();
    topic == SALES_BY_STORE && { value()["final"] == true && value()["correction"] == false }
}
