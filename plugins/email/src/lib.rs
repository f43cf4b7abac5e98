//! Tells customers about their orders, shipments and tiers.
//!
//! Reads `customer-orders`, `shipments` and `loyalty-points`, derives `customer-notifications`: one for every
//! order, one for every shipment, and one for every order that lifted its customer's tier; other points are
//! passed over. Keeps no state, and sends nothing by itself: whoever has a mail server reads the topic.

use orders::{LoyaltyPoints, Notification, NotificationKind, Order, Shipment, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Email;

impl Plugin for Email {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let notification = match event.topic.as_str() {
            topics::CUSTOMER_ORDERS => {
                let Order { order_id, customer_id, total, .. } = event.json()?;
                let subject = format!("We received your order {order_id} over {total}");
                Notification { kind: NotificationKind::Confirmation, customer_id, order_id, subject }
            }
            topics::SHIPMENTS => {
                let Shipment { order_id, customer_id, .. } = event.json()?;
                let subject = format!("Your order {order_id} is on its way");
                Notification { kind: NotificationKind::Shipped, customer_id, order_id, subject }
            }
            _ => {
                let LoyaltyPoints { order_id, customer_id, balance, previous_tier, tier, .. } =
                    event.json()?;
                if previous_tier == tier {
                    return Ok(());
                }
                let subject = format!("With {balance} points you are now {tier}");
                Notification { kind: NotificationKind::Tier, customer_id, order_id, subject }
            }
        };
        let record = Record::json(&notification)?.key(&notification.customer_id);
        Ok(step.emit(event, topics::CUSTOMER_NOTIFICATIONS, record)?)
    }
}

plugin!(Email);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidemill_plugin_sdk::testing::MockStep;

    fn told(topic: &str, value: Value) -> Vec<Value> {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        let outcome = step.event(topic, Record::json(&value).unwrap()).run::<Email>();
        assert_eq!(outcome.result, Ok(()));
        assert!(outcome.emitted.iter().all(|emitted| emitted.key() == Some("900")));
        outcome.emitted.iter().map(|emitted| emitted.json()).collect()
    }

    #[test]
    fn orders_and_shipments_are_always_told() {
        let order = json!({ "orderId": "1", "customerId": "900", "storeId": "3", "items": [], "total": 20.05,
            "discount": 0, "timestamp": "" });
        let received = json!({ "kind": "confirmation", "customerId": "900", "orderId": "1",
            "subject": "We received your order 1 over 20.05" });
        assert_eq!(told(topics::CUSTOMER_ORDERS, order), [received]);
        let shipment = json!({ "orderId": "1", "customerId": "900", "storeId": "3", "lines": 1, "units": 1,
            "amountCents": 5 });
        let shipped = json!({ "kind": "shipped", "customerId": "900", "orderId": "1",
            "subject": "Your order 1 is on its way" });
        assert_eq!(told(topics::SHIPMENTS, shipment), [shipped]);
    }

    #[test]
    fn points_are_told_only_when_they_lift_the_tier() {
        let points = |tier: &str| {
            json!({ "orderId": "1", "customerId": "900", "points": 5, "balance": 203, "previousTier": "bronze",
                    "tier": tier })
        };
        assert!(told(topics::LOYALTY_POINTS, points("bronze")).is_empty());
        let lifted = json!({ "kind": "tier", "customerId": "900", "orderId": "1",
            "subject": "With 203 points you are now silver" });
        assert_eq!(told(topics::LOYALTY_POINTS, points("silver")), [lifted]);
    }
}
