//! The stores' side: every order under its store's key, and what each store sold, hour by hour.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::history::{Expected, History, Position, Rec, SALES_BY_STORE, STORE_ORDERS};
use crate::orders::Order;
use crate::violation::Violations;

const HOUR_MS: i64 = 3_600_000;

/// A store's hour, by when it begins.
type Window<'a> = (&'a str, i64);

/// Orders, and their totals together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sales {
    orders: u64,
    cents: i64,
}

/// What was told of a window so far.
#[derive(Default)]
struct Told {
    sales: Sales,
    last_parent: Option<Position>,
    is_closed: bool,
}

pub(crate) fn check(orders: &[Order], history: &History<'_>, violations: &mut Violations) {
    let mut direct: BTreeMap<Window<'_>, Sales> = BTreeMap::new();
    let mut order_at: BTreeMap<Position, &Order> = BTreeMap::new();
    for order in orders {
        let sales = direct.entry(window_of(order)).or_default();
        (sales.orders, sales.cents) = (sales.orders + 1, sales.cents + order.total_cents);
        let Some(at) = order.position() else { continue };
        let expected = Expected { key: order.store.clone(), value: order.value.clone() };
        history.compare(STORE_ORDERS, &[at], &[expected], violations);
        for record in history.children(STORE_ORDERS, at) {
            order_at.insert((STORE_ORDERS, record.partition, record.offset), order);
        }
    }
    let mut told: BTreeMap<Window<'_>, Told> = BTreeMap::new();
    let mut counted = BTreeSet::new();
    for record in history.topic(SALES_BY_STORE).records.values() {
        let parent = record.parent();
        let Some((parent, order)) = parent.and_then(|parent| Some((parent, *order_at.get(&parent)?))) else {
            violations.add(SALES_BY_STORE, record.place(), "derives from no order of a store");
            continue;
        };
        let window = told.entry(window_of(order)).or_default();
        let is_of_order = counted.insert(parent);
        if let Err(what) = window.follow(record, parent, order, is_of_order) {
            violations.add(SALES_BY_STORE, record.place(), what);
        }
    }
    for parent in order_at.keys().filter(|parent| !counted.contains(parent)) {
        violations.add(STORE_ORDERS, Some((parent.1, parent.2)), "counts in no store's sales");
    }
    for ((store, begins_ms), sales) in direct {
        let told = told.remove(&(store, begins_ms)).unwrap_or_default();
        if told.sales != sales {
            let what =
                format!("store {store}, hour {begins_ms}: {:?} was told, and {sales:?} is right", told.sales);
            violations.add(SALES_BY_STORE, None, what);
        }
        if !told.is_closed {
            violations.add(
                SALES_BY_STORE,
                None,
                format_args!("store {store}, hour {begins_ms}: never closed"),
            );
        }
    }
}

fn window_of(order: &Order) -> Window<'_> {
    (&order.store, order.time_ms.div_euclid(HOUR_MS) * HOUR_MS)
}

impl Told {
    /// Follows the next record of the window: of an order, which it counts; or of its close, whose parent is the last of
    /// them.
    fn follow(
        &mut self,
        record: &Rec,
        parent: Position,
        order: &Order,
        is_of_order: bool,
    ) -> Result<(), String> {
        if is_of_order {
            self.sales.orders += 1;
            self.sales.cents += order.total_cents;
            self.last_parent = Some(parent);
        } else if self.is_closed {
            return Err("tells of an order, or of an hour's end, a second time".into());
        } else if self.last_parent != Some(parent) {
            return Err("closes an hour, and derives from another order than its last".into());
        }
        let is_correction = self.is_closed;
        self.is_closed |= !is_of_order;
        let expected = json!({
            "storeId": order.store, "hourBeginsMs": window_of(order).1, "orders": self.sales.orders,
            "revenueCents": self.sales.cents, "final": self.is_closed, "correction": is_correction,
        });
        let value = record.json().unwrap_or(Value::Null);
        if value != expected || record.key_text() != Some(&order.store) {
            return Err(format!("is {value} instead of {expected}"));
        }
        Ok(())
    }
}
