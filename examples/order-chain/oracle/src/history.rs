//! The records of the chain's topics, and who derives from whom.
//!
//! Values stay bytes until somebody looks at one: a run over all orders has half a million records.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::violation::Violations;

pub(crate) const CUSTOMER_ORDERS: &str = "customer-orders";
pub(crate) const ORDER_LINES: &str = "order-lines";
pub(crate) const INVENTORY_UPDATES: &str = "inventory-updates";
pub(crate) const PURCHASE_ORDERS: &str = "purchase-orders";
pub(crate) const STOCK_RECEIPTS: &str = "stock-receipts";
pub(crate) const PAYMENT_PROCESSING: &str = "payment-processing";
pub(crate) const SHIPMENTS: &str = "shipments";
pub(crate) const LOYALTY_POINTS: &str = "loyalty-points";
pub(crate) const CUSTOMER_NOTIFICATIONS: &str = "customer-notifications";
pub(crate) const STORE_ORDERS: &str = "store-orders";
pub(crate) const SALES_BY_STORE: &str = "sales-by-store";
pub(crate) const PRODUCT_AVAILABILITY: &str = "product-availability";
pub(crate) const PROMOTIONS: &str = "promotions";
pub(crate) const FRAUD_ALERTS: &str = "fraud-alerts";

/// The topics, with those that their records may derive from.
pub(crate) const SOURCES: [(&str, &[&str]); 14] = [
    (CUSTOMER_ORDERS, &[]),
    (ORDER_LINES, &[CUSTOMER_ORDERS]),
    (INVENTORY_UPDATES, &[ORDER_LINES, STOCK_RECEIPTS]),
    (PURCHASE_ORDERS, &[INVENTORY_UPDATES]),
    (STOCK_RECEIPTS, &[PURCHASE_ORDERS]),
    (PAYMENT_PROCESSING, &[CUSTOMER_ORDERS]),
    (SHIPMENTS, &[CUSTOMER_ORDERS, PAYMENT_PROCESSING]),
    (LOYALTY_POINTS, &[CUSTOMER_ORDERS]),
    (CUSTOMER_NOTIFICATIONS, &[CUSTOMER_ORDERS, SHIPMENTS, LOYALTY_POINTS]),
    (STORE_ORDERS, &[CUSTOMER_ORDERS]),
    (SALES_BY_STORE, &[STORE_ORDERS]),
    (PRODUCT_AVAILABILITY, &[INVENTORY_UPDATES]),
    (PROMOTIONS, &[INVENTORY_UPDATES]),
    (FRAUD_ALERTS, &[CUSTOMER_ORDERS]),
];

/// A record of one of the chain's topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rec {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// The record that it derives from: topic, partition, offset. None for what a producer wrote.
    pub parent: Option<(String, u32, u64)>,
}

impl Rec {
    pub(crate) fn place(&self) -> Option<(u32, u64)> {
        Some((self.partition, self.offset))
    }

    /// The record that it derives from, if that is of a topic of the chain.
    pub(crate) fn parent(&self) -> Option<Position> {
        let (topic, partition, offset) = self.parent.as_ref()?;
        let (name, _) = SOURCES.into_iter().find(|(name, _)| name == topic)?;
        Some((name, *partition, *offset))
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(self.value.as_deref()?).ok()
    }

    pub(crate) fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }
}

/// The place of a record: topic, partition, offset.
pub(crate) type Position = (&'static str, u32, u64);

/// One topic: its records by partition and offset, and by the record that they derive from.
#[derive(Default)]
pub(crate) struct Topic<'a> {
    pub(crate) records: BTreeMap<(u32, u64), &'a Rec>,
    children: BTreeMap<Position, Vec<&'a Rec>>,
}

/// All topics of the chain.
pub(crate) struct History<'a> {
    topics: BTreeMap<&'static str, Topic<'a>>,
}

/// A record that must be there: its key and its value.
pub(crate) struct Expected {
    pub(crate) key: String,
    pub(crate) value: Value,
}

impl<'a> History<'a> {
    pub(crate) fn new(topics: &'a BTreeMap<String, Vec<Rec>>, violations: &mut Violations) -> History<'a> {
        let mut history = History { topics: BTreeMap::new() };
        for (name, _) in SOURCES {
            let topic = history.topics.entry(name).or_default();
            for record in topics.get(name).into_iter().flatten() {
                if topic.records.insert((record.partition, record.offset), record).is_some() {
                    violations.add(name, record.place(), "two records have this offset");
                }
            }
            for record in topic.records.values() {
                if let Some(parent) = record.parent() {
                    topic.children.entry(parent).or_default().push(record);
                }
            }
        }
        history
    }

    pub(crate) fn topic(&self, name: &'static str) -> &Topic<'a> {
        &self.topics[name]
    }

    /// The record at a position, if the chain has it.
    pub(crate) fn at(&self, (topic, partition, offset): Position) -> Option<&'a Rec> {
        self.topics.get(topic)?.records.get(&(partition, offset)).copied()
    }

    /// What derives from a record, in the order of partitions and offsets.
    pub(crate) fn children(&self, topic: &'static str, parent: Position) -> &[&'a Rec] {
        self.topics[topic].children.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// Holds what derives from `parents` in a topic against what must: the same records, each as often, in
    /// whatever order their partitions have. True if they are.
    pub(crate) fn compare(
        &self,
        topic: &'static str,
        parents: &[Position],
        expected: &[Expected],
        violations: &mut Violations,
    ) -> bool {
        let line = |key: Option<&str>, value: &Value| format!("{}: {value}", key.unwrap_or("no key"));
        let mut missing: Vec<String> =
            expected.iter().map(|record| line(Some(&record.key), &record.value)).collect();
        let mut too_much = Vec::new();
        for record in parents.iter().flat_map(|parent| self.children(topic, *parent)) {
            let found = line(record.key_text(), &record.json().unwrap_or_default());
            match missing.iter().position(|one| *one == found) {
                Some(index) => drop(missing.remove(index)),
                None => too_much.push((record, found)),
            }
        }
        let parent =
            parents.first().map(|(topic, partition, offset)| format!("{topic}/{partition}@{offset}"));
        let parent = parent.unwrap_or_default();
        for (record, found) in &too_much {
            let instead = missing.pop().map(|one| format!(" instead of {one}")).unwrap_or_default();
            violations.add(topic, record.place(), format_args!("of {parent} derives {found}{instead}"));
        }
        for one in &missing {
            violations.add(topic, None, format_args!("of {parent} does not derive {one}"));
        }
        too_much.is_empty() && missing.is_empty()
    }
}
