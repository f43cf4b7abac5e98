//! One record for every item of an order, keyed by its product: here the chain turns from customers to products.
//!
//! Reads `customer-orders`, derives `order-lines`. Keeps no state.
//!
//! - An order of n items gives n lines, numbered from 1 in the order of the items. An order without items gives
//!   none. A product that occurs twice gives two lines.
//! - `amountCents` is quantity times price, rounded once, half a cent away from zero. It is what the items say: the
//!   lines of an order need not add up to its total.
//! - An item without quantity (the data has some) is a line all the same: nothing is left out here.

use orders::{Order, OrderLine, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct OrderLines;

impl Plugin for OrderLines {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let order: Order = event.json()?;
        let mut lines = Vec::with_capacity(order.items.len());
        for (line, item) in (1..).zip(order.items) {
            let line = OrderLine {
                order_id: order.order_id.clone(),
                customer_id: order.customer_id.clone(),
                store_id: order.store_id.clone(),
                line,
                amount_cents: item.price.of(item.quantity)?.0,
                product_id: item.product_id,
                name: item.name,
                department: item.department,
                quantity: item.quantity,
                price: item.price,
                timestamp: order.timestamp.clone(),
            };
            lines.push(Record::json(&line)?.key(&line.product_id));
        }
        Ok(step.emit_all(event, topics::ORDER_LINES, lines)?)
    }
}

plugin!(OrderLines);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::MockStep;

    fn step() -> MockStep {
        MockStep::from_manifest(include_str!("../plugin.toml"))
    }

    #[test]
    fn every_item_becomes_a_line_of_its_product() {
        let order = r#"{ "orderId": "1", "customerId": "900", "storeId": "330", "items": [
            { "productId": "6534178", "name": null, "department": "FUEL", "quantity": 8725, "price": 0.0023 },
            { "productId": "8290932", "name": "BARS", "department": null, "quantity": 0, "price": 1.776357e-15 }
        ], "total": 20.06, "discount": 0.0, "timestamp": "2017-01-01T11:53:26Z" }"#;
        let outcome =
            step().event(topics::CUSTOMER_ORDERS, Record::new(order).key("900")).run::<OrderLines>();
        assert_eq!(outcome.result, Ok(()));
        let keys: Vec<_> = outcome.emitted.iter().map(|line| line.key()).collect();
        assert_eq!(keys, [Some("6534178"), Some("8290932")]);
        let expected = json!({
            "orderId": "1", "customerId": "900", "storeId": "330", "line": 1, "productId": "6534178",
            "name": null, "department": "FUEL", "quantity": 8725, "price": 0.0023, "amountCents": 2007,
            "timestamp": "2017-01-01T11:53:26Z",
        });
        assert_eq!(outcome.emitted[0].json(), expected);
        let second = String::from_utf8(outcome.emitted[1].record.value.clone().unwrap()).unwrap();
        assert!(second.contains("\"line\":2") && second.contains("\"price\":1.776357e-15"), "{second}");
    }

    #[test]
    fn an_order_that_cannot_be_counted_is_rejected() {
        let item = json!({ "productId": "1", "quantity": i64::MAX, "price": 1_000_000 });
        let order = json!({ "orderId": "1", "customerId": "2", "storeId": "3", "items": [item], "total": 0,
                            "discount": 0, "timestamp": "" });
        let outcome =
            step().event(topics::CUSTOMER_ORDERS, Record::json(&order).unwrap()).run::<OrderLines>();
        assert!(matches!(outcome.result, Err(Failure::Reject(why)) if why.contains("no amount of money")));
    }
}
