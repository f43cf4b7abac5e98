//! Tells whether a product can be bought.
//!
//! Reads `inventory-updates`, derives `product-availability`: with a product's first update, and then only when the answer
//! changes. A product can be bought while any of it is in stock.
//!
//! State: the key is the product, the value its last answer as JSON.

use orders::{InventoryUpdate, ProductAvailability, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Storefront;

impl Plugin for Storefront {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let InventoryUpdate { product_id, current_stock, .. } = event.json()?;
        let is_available = current_stock > 0;
        if step.state().get_json::<bool>(&product_id)? == Some(is_available) {
            return Ok(());
        }
        step.state().put_json(&product_id, &is_available)?;
        let told = ProductAvailability { product_id, is_available };
        Ok(step.emit(event, topics::PRODUCT_AVAILABILITY, Record::json(&told)?.key(&told.product_id))?)
    }
}

plugin!(Storefront);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::MockStep;

    #[test]
    fn only_changes_are_told() {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        for stock in [5, 1, 0, -3, 9] {
            let update = json!({ "productId": "milk", "previousStock": 0, "currentStock": stock, "threshold": 2,
                "lowStockAlert": false, "cause": { "kind": "sale", "orderId": "o", "line": 1 } });
            step.event(topics::INVENTORY_UPDATES, Record::json(&update).unwrap());
        }
        let outcome = step.run::<Storefront>();
        let told: Vec<_> =
            outcome.emitted.iter().map(|emitted| emitted.json()["available"].as_bool()).collect();
        assert_eq!(told, [Some(true), Some(false), Some(true)]);
    }
}
