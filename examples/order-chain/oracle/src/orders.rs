//! The orders: those of the file, and that the topic holds them.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::history::{CUSTOMER_ORDERS, History, Position};
use crate::money::cents;
use crate::time;
use crate::violation::Violations;

/// An order of the file, in cents.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) store: String,
    pub(crate) items: Vec<Item>,
    pub(crate) total_cents: i64,
    pub(crate) timestamp: String,
    /// The same, in milliseconds since 1970.
    pub(crate) time_ms: i64,
    /// As it was written.
    pub(crate) value: Value,
    /// Partition and offset of its record; none if the topic has it not.
    pub(crate) place: Option<(u32, u64)>,
}

/// A line of it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) product: String,
    pub(crate) name: Option<String>,
    pub(crate) department: Option<String>,
    pub(crate) quantity: i64,
    /// As it was written.
    pub(crate) price: Box<RawValue>,
    pub(crate) amount_cents: i64,
}

impl Order {
    pub(crate) fn position(&self) -> Option<Position> {
        self.place.map(|(partition, offset)| (CUSTOMER_ORDERS, partition, offset))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderJson {
    order_id: String,
    customer_id: String,
    store_id: String,
    items: Vec<ItemJson>,
    total: Box<RawValue>,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemJson {
    product_id: String,
    name: Option<String>,
    department: Option<String>,
    quantity: i64,
    price: Box<RawValue>,
}

/// Reads the file, finds each order in the topic, and tells what is missing, doubled, altered, out of turn or from
/// elsewhere. Gives the orders in the order in which the topic has them, so that each customer's are in order.
pub(crate) fn check(file: impl BufRead, history: &History<'_>, violations: &mut Violations) -> Vec<Order> {
    let mut by_id = BTreeMap::new();
    for (place, record) in &history.topic(CUSTOMER_ORDERS).records {
        let Some(order) = record.value.as_deref().and_then(parse) else {
            violations.add(CUSTOMER_ORDERS, Some(*place), "is no order");
            continue;
        };
        if record.key_text() != Some(&order.customer) {
            violations.add(CUSTOMER_ORDERS, Some(*place), "has another key than its customer");
        }
        if by_id.insert(order.id, record).is_some() {
            violations.add(CUSTOMER_ORDERS, Some(*place), "is there a second time");
        }
    }
    let mut orders = Vec::new();
    let mut last_of: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for (number, line) in (1..).zip(file.split(b'\n')) {
        let line = match line {
            Ok(line) if line.trim_ascii().is_empty() => continue,
            Ok(line) => line,
            Err(error) => {
                violations.add(
                    CUSTOMER_ORDERS,
                    None,
                    format_args!("the file of orders, line {number}: {error}"),
                );
                break;
            }
        };
        let Some(mut order) = parse(&line) else {
            violations.add(
                CUSTOMER_ORDERS,
                None,
                format_args!("the file of orders, line {number}: no order"),
            );
            continue;
        };
        match by_id.remove(&order.id) {
            None => violations.add(CUSTOMER_ORDERS, None, format_args!("order {} is not there", order.id)),
            Some(record) => {
                order.place = record.place();
                if !same(record.value.as_deref().unwrap_or_default(), &line) {
                    violations.add(CUSTOMER_ORDERS, order.place, "is not the order that was produced");
                }
                let last = last_of.insert(order.customer.clone(), (record.partition, record.offset));
                if last > order.place {
                    violations.add(
                        CUSTOMER_ORDERS,
                        order.place,
                        "comes before an earlier order of its customer",
                    );
                }
            }
        }
        orders.push(order);
    }
    for (id, record) in by_id {
        violations.add(CUSTOMER_ORDERS, record.place(), format_args!("order {id} was never produced"));
    }
    orders.sort_by_key(|order| order.place);
    orders
}

/// The same bytes, or else the same JSON.
fn same(record: &[u8], line: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<Value>(bytes).ok();
    record == line.trim_ascii() || json(record) == json(line)
}

fn parse(json: &[u8]) -> Option<Order> {
    let order: OrderJson = serde_json::from_slice(json).ok()?;
    let items = order.items.into_iter().map(|item| {
        Some(Item {
            amount_cents: cents(item.price.get(), item.quantity)?,
            product: item.product_id,
            name: item.name,
            department: item.department,
            quantity: item.quantity,
            price: item.price,
        })
    });
    Some(Order {
        items: items.collect::<Option<_>>()?,
        total_cents: cents(order.total.get(), 1)?,
        id: order.order_id,
        customer: order.customer_id,
        store: order.store_id,
        time_ms: time::milliseconds(&order.timestamp)?,
        timestamp: order.timestamp,
        value: serde_json::from_slice(json).ok()?,
        place: None,
    })
}
