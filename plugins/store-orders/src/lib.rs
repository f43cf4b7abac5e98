//! Gives every order to its store.
//!
//! Reads `customer-orders`, derives `store-orders`: the same record, under the store's key. What is asked by store is
//! then answered by one task for each store, out of one log.

use orders::{Order, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct StoreOrders;

impl Plugin for StoreOrders {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let Order { store_id, .. } = event.json()?;
        Ok(step.emit(event, topics::STORE_ORDERS, Record::from(event).key(&store_id))?)
    }
}

plugin!(StoreOrders);

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_plugin_sdk::testing::MockStep;

    #[test]
    fn the_order_stays_as_it_is_and_gets_another_key() {
        let order = r#"{"orderId":"o","customerId":"900","storeId":"330","items":[],"total":1.50,"discount":0,"timestamp":""}"#;
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        let outcome = step.event(topics::CUSTOMER_ORDERS, Record::new(order).key("900")).run::<StoreOrders>();
        let emitted = &outcome.emitted[0];
        assert_eq!((emitted.key(), emitted.record.value.as_deref()), (Some("330"), Some(order.as_bytes())));
    }
}
