//! Ships every order that is paid: a join.
//!
//! Reads `customer-orders` and `payment-processing`, derives `shipments`: one for every order whose payment was
//! authorised, once both are there. The second of the two is the shipment's parent.
//!
//! - Whichever half comes first waits in the state, under the order's id; when the other comes it is removed. At
//!   the end nothing is left but what waits for its other half.
//! - A declined payment ends the wait without a shipment.
//!
//! State: the key is the order, the value its [`Half`] as JSON.

use orders::{Order, Payment, PaymentStatus, Shipment, topics};
use serde::{Deserialize, Serialize};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The half of an order that came first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Half {
    /// What will be shipped, once it is paid.
    Order {
        /// The store that it leaves from.
        store: String,
        /// How many lines it has.
        lines: u32,
        /// The units of all of them.
        units: i64,
    },
    /// What was paid, for an order that is not here yet.
    Payment(Payment),
}

/// The plugin.
pub struct Fulfillment;

impl Plugin for Fulfillment {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let (order_id, half) = match event.topic.as_str() {
            topics::CUSTOMER_ORDERS => {
                let order: Order = event.json()?;
                let lines = order.items.len() as u32;
                let units = order.items.iter().try_fold(0_i64, |sum, item| sum.checked_add(item.quantity));
                let units = units.ok_or_else(|| Failure::reject("more units than can be counted"))?;
                (order.order_id, Half::Order { store: order.store_id, lines, units })
            }
            _ => {
                let payment: Payment = event.json()?;
                (payment.order_id.clone(), Half::Payment(payment))
            }
        };
        match (step.state().get_json(&order_id)?, half) {
            (Some(Half::Order { store, lines, units }), Half::Payment(payment))
            | (Some(Half::Payment(payment)), Half::Order { store, lines, units }) => {
                step.state().delete(&order_id)?;
                ship(step, event, payment, store, lines, units)
            }
            // Nothing is there, or the same half again: the newest waits.
            (_, half) => step.state().put_json(&order_id, &half),
        }
    }
}

fn ship(
    step: &Step,
    event: &Event,
    payment: Payment,
    store_id: String,
    lines: u32,
    units: i64,
) -> Result<(), Failure> {
    let Payment { order_id, customer_id, amount_cents, status, .. } = payment;
    if status == PaymentStatus::Declined {
        return Ok(());
    }
    let shipment = Shipment { order_id, customer_id, store_id, lines, units, amount_cents };
    Ok(step.emit(event, topics::SHIPMENTS, Record::json(&shipment)?.key(&shipment.customer_id))?)
}

plugin!(Fulfillment);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::{MockStep, Outcome};

    const ORDER: &str = r#"{ "orderId": "1", "customerId": "900", "storeId": "330", "items": [
        { "productId": "7", "name": "A", "department": "B", "quantity": 2, "price": 0.5 },
        { "productId": "8", "name": null, "department": null, "quantity": 3, "price": 0 }
    ], "total": 1.00, "discount": 0.0, "timestamp": "2017-01-01T11:53:26Z" }"#;

    fn payment(status: &str) -> String {
        let payment = json!({ "orderId": "1", "customerId": "900", "amountCents": 100, "status": status,
            "reason": null });
        payment.to_string()
    }

    fn run(halves: [(&str, &str); 2]) -> (Outcome, MockStep) {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        let [first, second] = halves;
        let waiting = step.event(first.0, Record::new(first.1)).run::<Fulfillment>();
        assert_eq!((waiting.result, waiting.emitted.len(), step.state().len()), (Ok(()), 0, 1));
        let outcome = step.event(second.0, Record::new(second.1)).run::<Fulfillment>();
        assert_eq!(outcome.result, Ok(()));
        (outcome, step)
    }

    #[test]
    fn both_halves_ship_whichever_comes_first() {
        let paid = payment("authorised");
        let halves = [(topics::CUSTOMER_ORDERS, ORDER), (topics::PAYMENT_PROCESSING, paid.as_str())];
        for order in [[halves[0], halves[1]], [halves[1], halves[0]]] {
            let (outcome, step) = run(order);
            let shipment = json!({ "orderId": "1", "customerId": "900", "storeId": "330", "lines": 2, "units": 5,
                "amountCents": 100 });
            assert_eq!(outcome.emitted[0].json(), shipment);
            assert_eq!((outcome.emitted.len(), outcome.emitted[0].key()), (1, Some("900")));
            assert!(step.state().is_empty());
        }
    }

    #[test]
    fn what_is_not_paid_stays() {
        let declined = payment("declined");
        let (outcome, step) =
            run([(topics::CUSTOMER_ORDERS, ORDER), (topics::PAYMENT_PROCESSING, declined.as_str())]);
        assert!(outcome.emitted.is_empty() && step.state().is_empty());
    }
}
