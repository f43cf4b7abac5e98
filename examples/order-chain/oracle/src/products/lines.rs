//! Of each order its lines: one an item, and in a partition in the order of the items.

use std::collections::BTreeMap;

use serde_json::json;

use crate::history::{Expected, History, ORDER_LINES};
use crate::orders::Order;
use crate::violation::Violations;

pub(super) fn check(orders: &[Order], history: &History<'_>, violations: &mut Violations) {
    for order in orders {
        let Some(at) = order.position() else { continue };
        history.compare(ORDER_LINES, &[at], &lines(order), violations);
        let mut last_line = BTreeMap::new();
        for record in history.children(ORDER_LINES, at) {
            let line = record.json().and_then(|value| value["line"].as_u64());
            if last_line.insert(record.partition, line).is_some_and(|last| last > line) {
                violations.add(ORDER_LINES, record.place(), "lies behind a later line of its order");
            }
        }
    }
}

fn lines(order: &Order) -> Vec<Expected> {
    let lines = (1..).zip(&order.items).map(|(line, item): (u32, _)| Expected {
        key: item.product.clone(),
        value: json!({
            "orderId": order.id, "customerId": order.customer, "storeId": order.store, "line": line,
            "productId": item.product, "name": item.name, "department": item.department,
            "quantity": item.quantity, "price": item.price, "amountCents": item.amount_cents,
            "timestamp": order.timestamp,
        }),
    });
    lines.collect()
}
