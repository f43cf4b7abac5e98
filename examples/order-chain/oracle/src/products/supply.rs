//! What was ordered of a product: whenever it ran short, at least what was missing, once; and all of it came.

use std::collections::BTreeMap;

use serde_json::json;

use super::stock::Seen;
use crate::config::Config;
use crate::history::{Expected, History, INVENTORY_UPDATES, PURCHASE_ORDERS, STOCK_RECEIPTS};
use crate::violation::Violations;

/// Follows a product's updates, and holds the purchase orders and receipts of each against what its shortage asks
/// for. At the end nothing may be on order, and nothing short.
pub(super) fn walk(
    product: &str,
    seen: &[Seen<'_>],
    config: &Config,
    history: &History<'_>,
    violations: &mut Violations,
) {
    let threshold = config.threshold.of(product);
    let lot = config.lot_size.max(1);
    let mut on_order: BTreeMap<String, i64> = BTreeMap::new();
    let mut placed = 0;
    for update in seen {
        if let Some(id) = &update.received {
            on_order.remove(id);
        }
        let coming: i64 = on_order.values().sum();
        let missing = threshold - update.current - coming;
        let (mut order, mut receipt) = (None, None);
        if update.current < threshold && missing > 0 {
            placed += 1;
            let id = format!("{product}-{placed}");
            let lots = missing / lot + i64::from(missing % lot > 0);
            let quantity = lots * lot;
            let of = |value| Some(Expected { key: product.to_owned(), value });
            order = of(json!({
                "purchaseOrderId": id, "productId": product, "quantity": quantity, "missing": missing,
                "currentStock": update.current, "onOrder": coming, "threshold": threshold,
            }));
            receipt = of(json!({ "purchaseOrderId": id, "productId": product, "quantity": quantity }));
            on_order.insert(id, quantity);
        }
        let at = (INVENTORY_UPDATES, update.record.partition, update.record.offset);
        history.compare(PURCHASE_ORDERS, &[at], order.as_slice(), violations);
        for placed in history.children(PURCHASE_ORDERS, at) {
            let at = (PURCHASE_ORDERS, placed.partition, placed.offset);
            history.compare(STOCK_RECEIPTS, &[at], receipt.as_slice(), violations);
        }
    }
    for id in on_order.keys() {
        violations.add(STOCK_RECEIPTS, None, format_args!("purchase order {id} never came into the stock"));
    }
    if let Some(last) = seen.last().filter(|last| last.current < threshold) {
        let what = format!("product {product} is short at the end: {} of {threshold}", last.current);
        violations.add(INVENTORY_UPDATES, last.record.place(), what);
    }
}
