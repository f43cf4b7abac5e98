//! Delivers what was ordered, after a lead time.
//!
//! Reads `purchase-orders`, derives `stock-receipts`: one for each purchase order, of the same quantity, `lead-time-ms`
//! after the broker took the order in. A timer of append time waits for that, also while no record comes.
//!
//! A timer bears the offset of its purchase order: so timers that are due together fire in the order of the orders.
//!
//! State: the key is that offset, the value the receipt to come as JSON. It is removed with the delivery.

use orders::{PurchaseOrder, StockReceipt, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, Timer, plugin};

/// The plugin.
pub struct Supplier;

impl Plugin for Supplier {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let PurchaseOrder { purchase_order_id, product_id, quantity, .. } = event.json()?;
        let receipt = StockReceipt { purchase_order_id, product_id, quantity };
        let lead_time_ms: u64 = step.config().get("lead-time-ms")?;
        let number = format!("{:020}", event.offset);
        step.state().put_json(&number, &receipt)?;
        Ok(step.set_timer(event, Timer::append_time(number, event.append_time_ms + lead_time_ms))?)
    }

    fn timer(step: &Step, timer: &Timer) -> Result<(), Failure> {
        let receipt: Option<StockReceipt> = step.state().get_json(&timer.name)?;
        let receipt = receipt.ok_or_else(|| Failure::reject("nothing is to be delivered"))?;
        step.state().delete(&timer.name)?;
        Ok(step.emit(timer, topics::STOCK_RECEIPTS, Record::json(&receipt)?.key(&receipt.product_id))?)
    }
}

plugin!(Supplier);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::MockStep;

    #[test]
    fn a_delivery_comes_after_its_time_and_once() {
        let mut step =
            MockStep::from_manifest(include_str!("../plugin.toml")).with_config("lead-time-ms", 100);
        step.at_ms(1_000);
        for number in 1..=2 {
            let order = json!({ "purchaseOrderId": format!("milk-{number}"), "productId": "milk", "quantity": 24,
                "missing": 20, "currentStock": 4, "onOrder": 0, "threshold": 24 });
            step.event(topics::PURCHASE_ORDERS, Record::json(&order).unwrap());
        }
        assert_eq!(step.run::<Supplier>().result, Ok(()));
        assert!(step.at_ms(1_099).run_timers::<Supplier>().is_none());
        let outcome = step.at_ms(1_100).run_timers::<Supplier>().unwrap();
        let receipts: Vec<_> = outcome.emitted.iter().map(|emitted| emitted.json()).collect();
        let receipt = |number| json!({ "purchaseOrderId": format!("milk-{number}"), "productId": "milk", "quantity": 24 });
        assert_eq!(receipts, [receipt(1), receipt(2)]);
        assert!(step.state().is_empty());
        assert!(step.run_timers::<Supplier>().is_none());
    }
}
