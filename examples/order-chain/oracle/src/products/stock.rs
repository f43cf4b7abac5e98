//! A product's stock: each update continues the one before it, and in the end nothing was lost.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::history::{History, INVENTORY_UPDATES, ORDER_LINES, PURCHASE_ORDERS, Rec, STOCK_RECEIPTS};
use crate::violation::Violations;

/// What an update changed, as it says itself.
pub(super) struct Seen<'a> {
    pub(super) record: &'a Rec,
    pub(super) current: i64,
    /// The purchase order whose receipt it is, if it is one.
    pub(super) received: Option<String>,
}

/// As much of an update's parent as the update follows from.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parent {
    product_id: String,
    quantity: i64,
    order_id: Option<String>,
    line: Option<u32>,
    purchase_order_id: Option<String>,
}

/// Walks a product's updates in the order in which they happened.
pub(super) fn walk<'a>(
    product: &str,
    updates: &[&'a Rec],
    config: &Config,
    history: &History<'_>,
    violations: &mut Violations,
) -> Vec<Seen<'a>> {
    let mut seen = Vec::with_capacity(updates.len());
    let mut stock = config.opening_stock.of(product);
    for record in updates {
        let mut wrong = |what: String| violations.add(INVENTORY_UPDATES, record.place(), what);
        let parent = record.parent().and_then(|parent| {
            let bytes = history.at(parent)?.value.as_deref()?;
            Some((parent.0, serde_json::from_slice::<Parent>(bytes).ok()?))
        });
        let Some((topic, parent)) = parent else {
            wrong("follows from nothing that can be read".into());
            continue;
        };
        let expected = update(product, stock, config.threshold.of(product), topic, &parent);
        let value = record.json().unwrap_or_default();
        if value != expected || parent.product_id != product {
            wrong(format!("is {value} instead of {expected}"));
        }
        // What the record says is what others saw: one wrong record is not told again at each that follows.
        let said = |name: &str| value[name].as_i64().or(expected[name].as_i64());
        stock = said("currentStock").unwrap_or(stock);
        seen.push(Seen { record, current: stock, received: parent.purchase_order_id });
    }
    seen
}

fn update(product: &str, stock: i64, threshold: i64, topic: &str, parent: &Parent) -> Value {
    let (change, cause) = match topic {
        ORDER_LINES => {
            (-parent.quantity, json!({ "kind": "sale", "orderId": parent.order_id, "line": parent.line }))
        }
        _ => (parent.quantity, json!({ "kind": "receipt", "purchaseOrderId": parent.purchase_order_id })),
    };
    let current = stock + change;
    json!({
        "productId": product, "previousStock": stock, "currentStock": current, "threshold": threshold,
        "lowStockAlert": current < threshold, "cause": cause,
    })
}

/// Opening stock, less what the orders say was sold, and what the receipts say came, is what is there in the end.
pub(super) fn balance(
    product: &str,
    sold: i64,
    seen: &[Seen<'_>],
    config: &Config,
    history: &History<'_>,
    violations: &mut Violations,
) {
    let updates =
        seen.iter().map(|update| (INVENTORY_UPDATES, update.record.partition, update.record.offset));
    let placed = updates.flat_map(|update| history.children(PURCHASE_ORDERS, update));
    let receipts = placed
        .flat_map(|order| history.children(STOCK_RECEIPTS, (PURCHASE_ORDERS, order.partition, order.offset)));
    let quantities = receipts.filter_map(|receipt| receipt.json()?["quantity"].as_i64());
    let received: i64 = quantities.sum();
    let opening = config.opening_stock.of(product);
    let last = seen.last().map_or(opening, |update| update.current);
    if opening - sold + received != last {
        let what =
            format!("product {product} had {opening}, sold {sold}, received {received}, and has {last}");
        violations.add(INVENTORY_UPDATES, None, what);
    }
}
