//! What each customer usually does, counted a second time.

use std::collections::BTreeMap;

use serde_json::json;

use crate::config::Config;
use crate::history::{Expected, FRAUD_ALERTS, History};
use crate::orders::Order;
use crate::violation::Violations;

/// A customer's earlier orders: when they were made, and their totals.
#[derive(Default)]
struct Known {
    times_ms: Vec<i64>,
    totals: Vec<i64>,
}

/// Holds the alerts of each order against what was known of its customer before it. (No customer of ours has as many
/// orders that the plugin would begin to forget.)
pub(crate) fn check(orders: &[Order], config: &Config, history: &History<'_>, violations: &mut Violations) {
    let rules = &config.fraud;
    let mut customers: BTreeMap<&str, Known> = BTreeMap::new();
    for order in orders {
        let Some(at) = order.position() else { continue };
        let known = customers.entry(&order.customer).or_default();
        known.times_ms.push(order.time_ms);
        let since = order.time_ms - rules.window_minutes * 60_000;
        let recent = known.times_ms.iter().filter(|time| **time > since && **time <= order.time_ms).count();

        let counted = order.total_cents.clamp(0, 100_000_000);
        let orders = known.totals.len() as i64;
        let is_unusual = orders >= rules.orders_min && is_far_above(counted, &known.totals, rules.deviations);
        let alert = |kind: &str| Expected {
            key: order.customer.clone(),
            value: json!({ "kind": kind, "orderId": order.id, "customerId": order.customer,
                "amountCents": order.total_cents, "recentOrders": recent, "knownOrders": orders }),
        };
        let mut expected = Vec::new();
        if recent as i64 > rules.orders_max {
            expected.push(alert("velocity"));
        }
        if is_unusual {
            expected.push(alert("amount"));
        }
        history.compare(FRAUD_ALERTS, &[at], &expected, violations);
        known.totals.push(counted);
    }
}

/// Whether a total is above the mean of others by more than so many of their standard deviations. With everything
/// times their number *n*: *(nx − s)² > d² · Σ(nxᵢ − s)² / n*.
fn is_far_above(total: i64, others: &[i64], deviations: i64) -> bool {
    let n = others.len() as i128;
    let sum: i128 = others.iter().copied().map(i128::from).sum();
    let from_mean = |total: i64| n * i128::from(total) - sum;
    let squares: i128 = others.iter().map(|other| from_mean(*other).pow(2)).sum();
    let above = from_mean(total);
    above > 0 && n * above.pow(2) > i128::from(deviations).pow(2) * squares
}
