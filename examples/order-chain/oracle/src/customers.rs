//! The customers' side: of each order its payment, its shipment, its points, and what the customer is told.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::Config;
use crate::history::{
    CUSTOMER_NOTIFICATIONS, Expected, History, LOYALTY_POINTS, PAYMENT_PROCESSING, Position, SHIPMENTS,
};
use crate::money::shown;
use crate::orders::Order;
use crate::violation::Violations;

pub(crate) fn check(orders: &[Order], config: &Config, history: &History<'_>, violations: &mut Violations) {
    let mut balances = BTreeMap::new();
    for order in orders {
        let Some(at) = order.position() else { continue };
        let told = |kind: &str, subject: String| Notified { order, kind: kind.to_owned(), subject };
        let received = format!("We received your order {} over {}", order.id, shown(order.total_cents));
        told("confirmation", received).check(at, history, violations);

        let paid = order.total_cents <= config.limit_cents;
        history.compare(PAYMENT_PROCESSING, &[at], &[payment(order, paid, config)], violations);

        // The half that came second is the parent: the order or its payment.
        let payments = children(history, PAYMENT_PROCESSING, at);
        let halves: Vec<_> = [at].into_iter().chain(payments).collect();
        let shipped: &[Expected] = if paid { &[shipment(order)] } else { &[] };
        history.compare(SHIPMENTS, &halves, shipped, violations);
        for shipment in halves.iter().flat_map(|half| children(history, SHIPMENTS, *half)) {
            told("shipped", format!("Your order {} is on its way", order.id))
                .check(shipment, history, violations);
        }

        let balance = balances.entry(&order.customer).or_insert(0_i64);
        let before = *balance;
        let earned = order.total_cents.max(0).div_euclid(config.cents_per_point.max(1));
        *balance = before.saturating_add(earned);
        let (previous, tier) = (config.tier(before), config.tier(*balance));
        let points = json!({
            "orderId": order.id, "customerId": order.customer, "points": earned, "balance": *balance,
            "previousTier": previous, "tier": tier,
        });
        history.compare(LOYALTY_POINTS, &[at], &[expected(order, points)], violations);
        for points in children(history, LOYALTY_POINTS, at) {
            if previous == tier {
                history.compare(CUSTOMER_NOTIFICATIONS, &[points], &[], violations);
            } else {
                let lifted = format!("With {balance} points you are now {tier}");
                told("tier", lifted).check(points, history, violations);
            }
        }
    }
}

/// A notification that must be there.
struct Notified<'a> {
    order: &'a Order,
    kind: String,
    subject: String,
}

impl Notified<'_> {
    fn check(self, parent: Position, history: &History<'_>, violations: &mut Violations) {
        let Notified { order, kind, subject } = self;
        let value = json!({
            "kind": kind, "customerId": order.customer, "orderId": order.id, "subject": subject,
        });
        history.compare(CUSTOMER_NOTIFICATIONS, &[parent], &[expected(order, value)], violations);
    }
}

fn expected(order: &Order, value: Value) -> Expected {
    Expected { key: order.customer.clone(), value }
}

fn payment(order: &Order, paid: bool, config: &Config) -> Expected {
    let reason = (!paid).then(|| format!("more than {}", shown(config.limit_cents)));
    let value = json!({
        "orderId": order.id, "customerId": order.customer, "amountCents": order.total_cents,
        "status": if paid { "authorised" } else { "declined" }, "reason": reason,
    });
    expected(order, value)
}

fn shipment(order: &Order) -> Expected {
    let units: i64 = order.items.iter().map(|item| item.quantity).sum();
    let value = json!({
        "orderId": order.id, "customerId": order.customer, "storeId": order.store,
        "lines": order.items.len(), "units": units, "amountCents": order.total_cents,
    });
    expected(order, value)
}

/// The positions of what derives from a record.
fn children(history: &History<'_>, topic: &'static str, parent: Position) -> Vec<Position> {
    let children = history.children(topic, parent).iter();
    children.map(|record| (topic, record.partition, record.offset)).collect()
}
