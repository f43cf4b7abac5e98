//! Orders what runs low, at least what is missing, and never twice.
//!
//! Reads `inventory-updates`, derives `purchase-orders`. What the supplier delivers for them goes back into the stock,
//! whose updates come here again: a declared cycle.
//!
//! - *Missing* is the threshold less what is in stock and less what is on order. Only when the stock is below the
//!   threshold, and something is missing, is an order placed: for what is missing, rounded up to whole lots of
//!   `lot-size` units.
//! - A receipt that was seen in an update is no longer on order. Between the two, while a delivery is under way,
//!   further sales order only what they add to the shortage: it is the part on order that keeps one shortage from
//!   being ordered twice.
//! - So the cycle settles. A receipt moves units from *on order* to *in stock* and changes nothing about their sum,
//!   which was at least the threshold when it was ordered: the update that a receipt causes never orders anything,
//!   and each sale orders at most once.
//!
//! State: the key is the product, the value its [`Supply`] as JSON.

use std::collections::BTreeMap;

use orders::{Cause, InventoryUpdate, PurchaseOrder, topics};
use serde::{Deserialize, Serialize};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// What was ordered of a product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Supply {
    /// How many purchase orders were placed, ever.
    pub placed: u64,
    /// Those whose receipt has not come back in an update yet, with their quantity.
    pub open: BTreeMap<String, i64>,
}

/// The plugin.
pub struct Procurement;

impl Plugin for Procurement {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let update: InventoryUpdate = event.json()?;
        let product = update.product_id.clone();
        let before: Option<Supply> = step.state().get_json(&product)?;
        let mut supply = before.clone().unwrap_or_default();
        if let Cause::Receipt { purchase_order_id } = &update.cause {
            supply.open.remove(purchase_order_id);
        }
        if let Some(order) = order(step, update, &supply)? {
            step.emit(event, topics::PURCHASE_ORDERS, Record::json(&order)?.key(&product))?;
            supply.placed += 1;
            supply.open.insert(order.purchase_order_id, order.quantity);
        }
        if before.unwrap_or_default() != supply {
            step.state().put_json(&product, &supply)?;
        }
        Ok(())
    }
}

/// What is to be ordered now, if anything is.
fn order(step: &Step, update: InventoryUpdate, supply: &Supply) -> Result<Option<PurchaseOrder>, Failure> {
    let InventoryUpdate { product_id, current_stock, threshold, low_stock_alert, .. } = update;
    let on_order: i128 = supply.open.values().map(|quantity| i128::from(*quantity)).sum();
    let missing = i128::from(threshold) - i128::from(current_stock) - on_order;
    if !low_stock_alert || missing <= 0 {
        return Ok(None);
    }
    let lot: i64 = step.config().get("lot-size")?;
    if lot < 1 {
        return Err(Failure::reject(format_args!("config.lot-size: {lot} is less than 1")));
    }
    let lot = i128::from(lot);
    let quantity = (missing + lot - 1) / lot * lot;
    let countable =
        |units: i128| i64::try_from(units).map_err(|_| Failure::reject("more units than can be counted"));
    Ok(Some(PurchaseOrder {
        purchase_order_id: format!("{product_id}-{}", supply.placed + 1),
        product_id,
        quantity: countable(quantity)?,
        missing: countable(missing)?,
        current_stock,
        on_order: countable(on_order)?,
        threshold,
    }))
}

plugin!(Procurement);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::{MockStep, Outcome};

    fn step() -> MockStep {
        MockStep::from_manifest(include_str!("../plugin.toml")).with_config("lot-size", 24)
    }

    fn sale(previous: i64, current: i64) -> InventoryUpdate {
        let cause = Cause::Sale { order_id: "o".into(), line: 1 };
        let (low_stock_alert, product_id) = (current < 10, "milk".into());
        InventoryUpdate {
            product_id,
            previous_stock: previous,
            current_stock: current,
            threshold: 10,
            low_stock_alert,
            cause,
        }
    }

    fn received(previous: i64, current: i64, id: &str) -> InventoryUpdate {
        InventoryUpdate { cause: Cause::Receipt { purchase_order_id: id.into() }, ..sale(previous, current) }
    }

    fn run(step: &mut MockStep, update: &InventoryUpdate) -> Outcome {
        let outcome =
            step.event(topics::INVENTORY_UPDATES, Record::json(update).unwrap()).run::<Procurement>();
        assert_eq!(outcome.result, Ok(()));
        outcome
    }

    #[test]
    fn a_low_stock_is_ordered_in_whole_lots() {
        let outcome = run(&mut step(), &sale(12, -30));
        let order = json!({ "purchaseOrderId": "milk-1", "productId": "milk", "quantity": 48, "missing": 40,
            "currentStock": -30, "onOrder": 0, "threshold": 10 });
        let [emitted] = &outcome.emitted[..] else { panic!("{:?}", outcome.emitted) };
        assert_eq!((emitted.topic.as_str(), emitted.json()), (topics::PURCHASE_ORDERS, order));
    }

    #[test]
    fn what_is_under_way_is_not_ordered_again_but_what_is_added_is() {
        let mut step = step();
        assert_eq!(run(&mut step, &sale(10, 9)).emitted.len(), 1, "24 ordered, 1 was missing");
        assert_eq!(run(&mut step, &sale(9, 0)).emitted.len(), 0, "24 on order, 10 missing");
        let more = run(&mut step, &sale(0, -20));
        assert_eq!(
            (more.emitted[0].json()["missing"].as_i64(), more.emitted[0].json()["quantity"].as_i64()),
            (Some(6), Some(24))
        );
        assert_eq!(run(&mut step, &received(-20, 4, "milk-1")).emitted.len(), 0, "low, but 24 are on order");
        assert_eq!(run(&mut step, &received(4, 28, "milk-2")).emitted.len(), 0);
        assert_eq!(step.state_json::<Supply>("milk"), Some(Supply { placed: 2, open: BTreeMap::new() }));
    }

    #[test]
    fn enough_stock_leaves_no_trace() {
        let mut step = step();
        assert_eq!(run(&mut step, &sale(12, 10)).emitted.len(), 0);
        assert!(step.state().is_empty());
    }

    #[test]
    fn a_delivery_that_nobody_ordered_does_not_count_as_ordered() {
        let mut step = step();
        run(&mut step, &sale(10, 9));
        run(&mut step, &received(9, 9, "somebody-else's"));
        assert_eq!(step.state_json::<Supply>("milk").unwrap().open.len(), 1);
    }
}
