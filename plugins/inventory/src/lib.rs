//! Keeps the stock of every product.
//!
//! Reads `order-lines` and `stock-receipts`, derives `inventory-updates`: one update for every record that it
//! reads, in the order in which it reads them, so that each update's `previousStock` is the `currentStock` of the
//! update before it.
//!
//! - A product's stock begins with `opening-stock.default`, or `opening-stock.exceptions.<product>`.
//! - A line takes its quantity out, a receipt puts its quantity in. A quantity of nothing is an update too.
//! - Stock may become negative: more was sold than was there. Nothing is refused for lack of stock.
//! - `lowStockAlert` says whether the stock is below `threshold.default`, or `threshold.exceptions.<product>`.
//!
//! State: the key is the product, the value its stock as JSON. A product that was never seen has no entry.

use orders::{Cause, InventoryUpdate, OrderLine, StockReceipt, topics};
use tidemill_plugin_sdk::{Config, ConfigError, Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Inventory;

impl Plugin for Inventory {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let (product_id, change, cause) = match event.topic.as_str() {
            topics::ORDER_LINES => {
                let OrderLine { product_id, quantity, order_id, line, .. } = event.json()?;
                (product_id, quantity.checked_neg(), Cause::Sale { order_id, line })
            }
            _ => {
                let StockReceipt { purchase_order_id, product_id, quantity } = event.json()?;
                (product_id, Some(quantity), Cause::Receipt { purchase_order_id })
            }
        };
        let previous_stock = match step.state().get_json(&product_id)? {
            Some(stock) => stock,
            None => of_product(step.config(), "opening-stock", &product_id)?,
        };
        let current_stock = change.and_then(|change| previous_stock.checked_add(change));
        let current_stock = current_stock.ok_or_else(|| Failure::reject("more units than can be counted"))?;
        step.state().put_json(&product_id, &current_stock)?;

        let threshold = of_product(step.config(), "threshold", &product_id)?;
        let low_stock_alert = current_stock < threshold;
        let update =
            InventoryUpdate { product_id, previous_stock, current_stock, threshold, low_stock_alert, cause };
        Ok(step.emit(event, topics::INVENTORY_UPDATES, Record::json(&update)?.key(&update.product_id))?)
    }
}

/// A number that the configuration has for all products, with exceptions for some.
fn of_product(config: Config, table: &str, product: &str) -> Result<i64, ConfigError> {
    match config.find(&format!("{table}.exceptions.{product}"))? {
        Some(exception) => Ok(exception),
        None => config.get(&format!("{table}.default")),
    }
}

plugin!(Inventory);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidemill_plugin_sdk::testing::MockStep;

    fn line(product: &str, quantity: i64) -> Record {
        let line = json!({ "orderId": "o1", "customerId": "c", "storeId": "s", "line": 2, "productId": product,
            "name": null, "department": null, "quantity": quantity, "price": 0.5, "amountCents": 50,
            "timestamp": "" });
        Record::json(&line).unwrap().key(product)
    }

    fn receipt(product: &str, quantity: i64) -> Record {
        let receipt = json!({ "purchaseOrderId": "p-1", "productId": product, "quantity": quantity });
        Record::json(&receipt).unwrap().key(product)
    }

    fn step() -> MockStep {
        let manifest = MockStep::from_manifest(include_str!("../plugin.toml"));
        let configured = [("opening-stock.default", 20), ("threshold.default", 10)].into_iter();
        let exceptions = [("opening-stock.exceptions.fuel", 1_000), ("threshold.exceptions.fuel", 500)];
        let configured = configured.chain(exceptions);
        configured.fold(manifest, |step, (key, value)| step.with_config(key, value))
    }

    fn stocks(update: &Value) -> (i64, i64, bool) {
        let number = |name: &str| update[name].as_i64().unwrap();
        (number("previousStock"), number("currentStock"), update["lowStockAlert"].as_bool().unwrap())
    }

    #[test]
    fn stock_goes_down_with_sales_and_up_with_receipts() {
        let mut step = step();
        step.event(topics::ORDER_LINES, line("milk", 10)).event(topics::ORDER_LINES, line("milk", 1));
        let outcome = step.event(topics::STOCK_RECEIPTS, receipt("milk", 24)).run::<Inventory>();
        let seen: Vec<_> = outcome.emitted.iter().map(|update| stocks(&update.json())).collect();
        assert_eq!(seen, [(20, 10, false), (10, 9, true), (9, 33, false)]);
        let expected = json!({ "productId": "milk", "previousStock": 10, "currentStock": 9, "threshold": 10,
            "lowStockAlert": true, "cause": { "kind": "sale", "orderId": "o1", "line": 2 } });
        assert_eq!(outcome.emitted[1].json(), expected);
        assert_eq!(
            outcome.emitted[2].json()["cause"],
            json!({ "kind": "receipt", "purchaseOrderId": "p-1" })
        );
        assert_eq!(step.state_json::<i64>("milk"), Some(33));
    }

    #[test]
    fn exceptions_go_before_the_default_and_stock_may_be_negative() {
        let mut step = step();
        let outcome = step.event(topics::ORDER_LINES, line("fuel", 30_580)).run::<Inventory>();
        assert_eq!(stocks(&outcome.emitted[0].json()), (1_000, -29_580, true));
        assert_eq!(outcome.emitted[0].json()["threshold"], 500);
    }

    #[test]
    fn what_cannot_be_counted_is_rejected() {
        let mut step = step();
        for record in [line("milk", i64::MIN), line("milk", i64::MAX), line("milk", i64::MAX)] {
            step.event(topics::ORDER_LINES, record);
        }
        assert!(matches!(step.run::<Inventory>().result, Err(Failure::Reject(_))));
        assert!(step.state().is_empty());
    }

    #[test]
    fn a_missing_number_names_its_key() {
        let mut step = MockStep::new();
        let outcome = step.event(topics::ORDER_LINES, line("milk", 1)).run::<Inventory>();
        assert_eq!(
            outcome.result,
            Err(Failure::Reject("config.opening-stock.default: it is missing".into()))
        );
    }
}
