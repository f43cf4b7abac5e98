//! Authorises or declines the payment of every order.
//!
//! Reads `customer-orders`, derives `payment-processing`: one payment for every order. Keeps no state.
//!
//! The rule: what is more than `limit-cents` is declined, everything else authorised, amounts of nothing and
//! repayments included. The amount is the order's total.

use orders::{Cents, Order, Payment, PaymentStatus, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Payments;

impl Plugin for Payments {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let Order { order_id, customer_id, total, .. } = event.json()?;
        let limit = Cents(step.config().get("limit-cents")?);
        let (status, reason) = match total > limit {
            true => (PaymentStatus::Declined, Some(format!("more than {limit}"))),
            false => (PaymentStatus::Authorised, None),
        };
        let payment = Payment { order_id, customer_id, amount_cents: total.0, status, reason };
        Ok(step.emit(event, topics::PAYMENT_PROCESSING, Record::json(&payment)?.key(&payment.customer_id))?)
    }
}

plugin!(Payments);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidemill_plugin_sdk::testing::MockStep;

    fn pay(total: &str) -> Value {
        let order = format!(
            r#"{{ "orderId": "1", "customerId": "900", "storeId": "330", "items": [], "total": {total},
                 "discount": 0.0, "timestamp": "2017-01-01T11:53:26Z" }}"#
        );
        let manifest = include_str!("../plugin.toml");
        let mut step = MockStep::from_manifest(manifest).with_config("limit-cents", 10_000);
        let outcome = step.event(topics::CUSTOMER_ORDERS, Record::new(order)).run::<Payments>();
        assert_eq!(outcome.emitted[0].key(), Some("900"));
        outcome.emitted[0].json()
    }

    #[test]
    fn the_limit_itself_may_still_be_paid() {
        let authorised = json!({ "orderId": "1", "customerId": "900", "amountCents": 10_000,
            "status": "authorised", "reason": null });
        assert_eq!(pay("100.00"), authorised);
        let declined = json!({ "orderId": "1", "customerId": "900", "amountCents": 10_001, "status": "declined",
            "reason": "more than 100.00" });
        assert_eq!(pay("100.01"), declined);
        assert_eq!(pay("0.0")["status"], "authorised");
    }
}
