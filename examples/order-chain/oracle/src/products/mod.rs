//! The products' side: the lines of each order, and then, product by product, its stock and what was ordered.

mod lines;
mod shop;
mod stock;
mod supply;

use std::collections::BTreeMap;

use crate::config::Config;
use crate::history::{History, INVENTORY_UPDATES, ORDER_LINES, Rec, STOCK_RECEIPTS};
use crate::orders::Order;
use crate::violation::Violations;

pub(crate) fn check(orders: &[Order], config: &Config, history: &History<'_>, violations: &mut Violations) {
    lines::check(orders, history, violations);
    for topic in [ORDER_LINES, STOCK_RECEIPTS] {
        for record in history.topic(topic).records.values() {
            let updates = history.children(INVENTORY_UPDATES, (topic, record.partition, record.offset));
            if updates.len() != 1 {
                let what = format_args!("has {} inventory updates instead of one", updates.len());
                violations.add(topic, record.place(), what);
            }
        }
    }
    let mut sold: BTreeMap<&str, i64> = BTreeMap::new();
    for item in orders.iter().flat_map(|order| &order.items) {
        *sold.entry(&item.product).or_default() += item.quantity;
    }
    let mut updates: BTreeMap<Option<&str>, Vec<&Rec>> = BTreeMap::new();
    for record in history.topic(INVENTORY_UPDATES).records.values() {
        updates.entry(record.key_text()).or_default().push(record);
    }
    for (product, updates) in &updates {
        let Some(product) = product else {
            violations.add(INVENTORY_UPDATES, updates[0].place(), "has no product for a key");
            continue;
        };
        let seen = stock::walk(product, updates, config, history, violations);
        stock::balance(product, sold.remove(product).unwrap_or(0), &seen, config, history, violations);
        supply::walk(product, &seen, config, history, violations);
        shop::walk(product, &seen, config, history, violations);
    }
    for product in sold.keys() {
        violations.add(INVENTORY_UPDATES, None, format_args!("product {product} was sold and has no update"));
    }
}
