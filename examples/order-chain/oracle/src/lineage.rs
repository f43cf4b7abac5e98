//! Where derived records come from, and where they lie.
//!
//! Three things hold for every topic, whatever its records say: a parent exists and is of a topic that the plugin
//! reads; the records of one key lie in one partition, the same in all topics that share the key; and those that
//! derive from one source partition lie in the order of their parents, because a task reads in order, steps in
//! order, and ships in order.

use std::collections::BTreeMap;

use crate::history::{
    CUSTOMER_NOTIFICATIONS, CUSTOMER_ORDERS, History, LOYALTY_POINTS, PAYMENT_PROCESSING, SHIPMENTS, SOURCES,
};
use crate::violation::Violations;

/// The topics whose key is the customer; that of the others is the product.
const BY_CUSTOMER: [&str; 5] =
    [CUSTOMER_ORDERS, PAYMENT_PROCESSING, SHIPMENTS, LOYALTY_POINTS, CUSTOMER_NOTIFICATIONS];

pub(crate) fn check(history: &History<'_>, violations: &mut Violations) {
    let mut partition_of = BTreeMap::new();
    for (topic, sources) in SOURCES {
        let by_customer = BY_CUSTOMER.contains(&topic);
        let mut newest_parent = BTreeMap::new();
        for record in history.topic(topic).records.values() {
            let home = partition_of.entry((by_customer, record.key.as_deref())).or_insert(record.partition);
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
            let newest = newest_parent.entry((record.partition, source, partition)).or_insert(offset);
            if *newest > offset {
                violations.add(topic, record.place(), "lies behind what derives from a later record");
            }
            *newest = (*newest).max(offset);
        }
    }
}
