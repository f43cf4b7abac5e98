//! Counts every customer's points, and gives them a tier.
//!
//! Reads `customer-orders`, derives `loyalty-points`: one record for every order, in the order of the customer's
//! orders.
//!
//! - An order earns one point for every full `cents-per-point` of its total, and none if the total is negative.
//!   Whether it can be paid is not asked: points are for buying.
//! - The tiers are the table `tiers`: the balance from which each holds. A customer has the tier with the highest
//!   such balance that they reach; balances never fall, so tiers only rise. One tier must begin at 0. Of two that
//!   begin alike, the one whose name comes last in the alphabet holds.
//! - Before the first order the balance is 0.
//!
//! State: the key is the customer, the value their balance as JSON.

use orders::{LoyaltyPoints, Order, topics};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The plugin.
pub struct Loyalty;

impl Plugin for Loyalty {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let Order { order_id, customer_id, total, .. } = event.json()?;
        let cents_per_point: i64 = step.config().get("cents-per-point")?;
        if cents_per_point < 1 {
            return Err(Failure::reject(format_args!(
                "config.cents-per-point: {cents_per_point} is less than 1"
            )));
        }
        let points = total.0.max(0) / cents_per_point;
        let before: i64 = step.state().get_json(&customer_id)?.unwrap_or(0);
        let balance = before.checked_add(points);
        let balance = balance.ok_or_else(|| Failure::reject("more points than can be counted"))?;
        step.state().put_json(&customer_id, &balance)?;

        let tiers: Vec<(String, i64)> = step.config().table("tiers")?;
        let (previous_tier, tier) = (tier(&tiers, before)?, tier(&tiers, balance)?);
        let earned = LoyaltyPoints { order_id, customer_id, points, balance, previous_tier, tier };
        Ok(step.emit(event, topics::LOYALTY_POINTS, Record::json(&earned)?.key(&earned.customer_id))?)
    }
}

/// The tier of a balance.
fn tier(tiers: &[(String, i64)], balance: i64) -> Result<String, Failure> {
    let reached = tiers.iter().filter(|(_, from)| *from <= balance);
    let highest = reached.max_by_key(|(name, from)| (*from, name));
    let highest =
        highest.ok_or_else(|| Failure::reject(format_args!("config.tiers: none for {balance} points")))?;
    Ok(highest.0.clone())
}

plugin!(Loyalty);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemill_plugin_sdk::testing::{MockStep, Outcome};

    fn step() -> MockStep {
        MockStep::from_manifest(include_str!("../plugin.toml"))
            .with_config("cents-per-point", 100)
            .with_config("tiers.silver", 10)
    }

    fn order(step: &mut MockStep, total: &str) -> Outcome {
        let order = format!(
            r#"{{ "orderId": "o", "customerId": "900", "storeId": "330", "items": [], "total": {total},
                 "discount": 0, "timestamp": "" }}"#
        );
        step.event(topics::CUSTOMER_ORDERS, Record::new(order)).run::<Loyalty>()
    }

    #[test]
    fn full_units_count_and_the_balance_lifts_the_tier() {
        let mut step = step();
        let first = json!({ "orderId": "o", "customerId": "900", "points": 9, "balance": 9,
            "previousTier": "bronze", "tier": "bronze" });
        assert_eq!(order(&mut step, "9.99").emitted[0].json(), first);
        let second = json!({ "orderId": "o", "customerId": "900", "points": 1, "balance": 10,
            "previousTier": "bronze", "tier": "silver" });
        assert_eq!(order(&mut step, "1.00").emitted[0].json(), second);
        assert_eq!(order(&mut step, "-50").emitted[0].json()["points"], 0, "nothing is taken back");
        assert_eq!(step.state_json::<i64>("900"), Some(10));
    }

    #[test]
    fn a_balance_without_a_tier_is_a_mistake_of_the_configuration() {
        let mut step = step().with_config("tiers.bronze", 1);
        let outcome = order(&mut step, "0.50");
        assert_eq!(outcome.result, Err(Failure::Reject("config.tiers: none for 0 points".into())));
    }
}
