//! Offers what there is too much of.
//!
//! Reads `inventory-updates`, derives `promotions`: one when a product's stock is above its `overstock`, and one that ends it
//! when it no longer is.
//!
//! State: the key is a product that is on offer, without a value worth reading.

use orders::{InventoryUpdate, Promotion, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Promotions;

impl Plugin for Promotions {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let InventoryUpdate { product_id, current_stock, .. } = event.json()?;
        let overstock = overstock(step, &product_id)?;
        let is_active = current_stock > overstock;
        if step.state().get(&product_id).is_some() == is_active {
            return Ok(());
        }
        if is_active {
            step.state().put(&product_id, "")?;
        } else {
            step.state().delete(&product_id)?;
        }
        let discount_percent = step.config().get("discount-percent")?;
        let promotion = Promotion { product_id, is_active, discount_percent, current_stock, overstock };
        Ok(step.emit(event, topics::PROMOTIONS, Record::json(&promotion)?.key(&promotion.product_id))?)
    }
}

fn overstock(step: &Step, product: &str) -> Result<i64, Failure> {
    Ok(match step.config().find(&format!("overstock.exceptions.{product}"))? {
        Some(exception) => exception,
        None => step.config().get("overstock.default")?,
    })
}

plugin!(Promotions);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::MockStep;

    #[test]
    fn an_offer_begins_and_ends_once() {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"))
            .with_config("overstock.default", 10)
            .with_config("overstock.exceptions.fuel", 100);
        for (product, stock) in [("milk", 11), ("milk", 30), ("fuel", 99), ("milk", 10), ("milk", 3)] {
            let update = json!({ "productId": product, "previousStock": 0, "currentStock": stock, "threshold": 2,
                "lowStockAlert": false, "cause": { "kind": "sale", "orderId": "o", "line": 1 } });
            step.event(topics::INVENTORY_UPDATES, Record::json(&update).unwrap());
        }
        let outcome = step.run::<Promotions>();
        let told: Vec<_> = outcome.emitted.iter().map(|emitted| emitted.json()).collect();
        let promotion = |active: bool, stock: i64| {
            json!({ "productId": "milk", "active": active,
            "discountPercent": 20, "currentStock": stock, "overstock": 10 })
        };
        assert_eq!(told, [promotion(true, 11), promotion(false, 10)]);
        assert!(step.state().is_empty());
    }
}
