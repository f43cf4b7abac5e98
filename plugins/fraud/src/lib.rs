//! Notices what a customer does not usually do.
//!
//! Reads `customer-orders`, derives `fraud-alerts`, by what is known of the customer before the order:
//!
//! - *velocity*: with this order there are more than `orders-max` within `window-minutes` up to its own time;
//! - *amount*: the total is above the mean of the earlier totals by more than `deviations` standard deviations, once there
//!   are `orders-min` of them.
//!
//! Everything is counted in whole numbers. With *n* totals, *s* their sum and *q* the sum of their squares, *n²* times the
//! variance is *nq − s²*, so the second rule is *(nx − s)² > d²(nq − s²)* for *nx > s*. Totals count up to a million, so
//! that nothing overflows.
//!
//! State: the key is the customer, the value their [`Habit`] as JSON.

use orders::{FraudAlert, FraudKind, Order, topics};
use serde::{Deserialize, Serialize};
use tidemill_plugin_sdk::{Event, Failure, Plugin, Record, Step, plugin};

/// The largest total that counts, in cents.
const TOTAL_MAX: i64 = 100_000_000;
/// Orders after which older ones weigh no more: then all sums are halved.
const ORDERS_MAX: u64 = 1_024;
/// Times that are kept.
const TIMES_MAX: usize = 100;

/// What a customer usually does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Habit {
    /// Orders.
    pub orders: u64,
    /// The sum of their totals, in cents.
    pub sum: i64,
    /// The sum of the squares of their totals.
    pub squares: u64,
    /// When the last of them were made, in milliseconds since 1970.
    pub times_ms: Vec<i64>,
}

/// The plugin.
pub struct Fraud;

impl Plugin for Fraud {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let Order { order_id, customer_id, total, .. } = event.json()?;
        let mut habit: Habit = step.state().get_json(&customer_id)?.unwrap_or_default();
        let amount = total.0.clamp(0, TOTAL_MAX);

        let minutes: i64 = step.config().get("window-minutes")?;
        let within =
            |time: &i64| *time > event.timestamp_ms - minutes * 60_000 && *time <= event.timestamp_ms;
        habit.times_ms.push(event.timestamp_ms);
        let recent = habit.times_ms.iter().filter(|time| within(time)).count() as u64;
        let too_old = habit.times_ms.len().saturating_sub(TIMES_MAX);
        habit.times_ms.drain(..too_old);
        let is_unusual =
            is_unusual(&habit, amount, step.config().get("orders-min")?, step.config().get("deviations")?);

        let found = [
            (recent > step.config().get("orders-max")?, FraudKind::Velocity),
            (is_unusual, FraudKind::Amount),
        ];
        for (_, kind) in found.into_iter().filter(|(is_found, _)| *is_found) {
            let alert = FraudAlert {
                kind,
                order_id: order_id.clone(),
                customer_id: customer_id.clone(),
                amount_cents: total.0,
                recent_orders: recent,
                known_orders: habit.orders,
            };
            step.emit(event, topics::FRAUD_ALERTS, Record::json(&alert)?.key(&customer_id))?;
        }
        habit.learn(amount);
        Ok(step.state().put_json(&customer_id, &habit)?)
    }
}

fn is_unusual(habit: &Habit, amount: i64, orders_min: u64, deviations: u32) -> bool {
    let (n, x, s) = (i128::from(habit.orders), i128::from(amount), i128::from(habit.sum));
    let variance = n * i128::from(habit.squares) - s * s;
    let above = n * x - s;
    habit.orders >= orders_min && above > 0 && above * above > i128::from(deviations).pow(2) * variance
}

impl Habit {
    fn learn(&mut self, amount: i64) {
        if self.orders == ORDERS_MAX {
            (self.orders, self.sum, self.squares) = (self.orders / 2, self.sum / 2, self.squares / 2);
        }
        self.orders += 1;
        self.sum += amount;
        self.squares += amount.unsigned_abs().pow(2);
    }
}

plugin!(Fraud);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tidemill_plugin_sdk::testing::MockStep;

    fn step() -> MockStep {
        MockStep::from_manifest(include_str!("../plugin.toml"))
            .with_config("window-minutes", 10)
            .with_config("orders-max", 2)
            .with_config("orders-min", 3)
            .with_config("deviations", 2)
    }

    fn alerts(step: &mut MockStep, total: &str, minute: i64) -> Vec<Value> {
        let order = format!(
            r#"{{ "orderId": "o", "customerId": "900", "storeId": "330", "items": [], "total": {total},
                 "discount": 0, "timestamp": "" }}"#
        );
        let record = Record::new(order).timestamp_ms(minute * 60_000);
        let outcome = step.event(topics::CUSTOMER_ORDERS, record).run::<Fraud>();
        assert_eq!(outcome.result, Ok(()));
        outcome.emitted.iter().map(|emitted| emitted.json()).collect()
    }

    #[test]
    fn an_unusual_amount_is_noticed_once_there_is_a_habit() {
        let mut step = step();
        assert_eq!(alerts(&mut step, "900", 0), [] as [Value; 0], "nothing is known yet");
        let mut step = self::step();
        for (number, total) in ["10", "12", "11"].into_iter().enumerate() {
            assert_eq!(alerts(&mut step, total, number as i64 * 100), [] as [Value; 0]);
        }
        assert_eq!(alerts(&mut step, "12.60", 900), [] as [Value; 0], "within two deviations");
        let found = alerts(&mut step, "14", 1_000);
        assert_eq!(
            (found.len(), &found[0]["kind"], &found[0]["knownOrders"]),
            (1, &"amount".into(), &4.into())
        );
    }

    #[test]
    fn too_many_orders_within_the_window_are_noticed() {
        let mut step = step();
        let counts = [0, 4, 9, 10, 30].map(|minute| alerts(&mut step, "1", minute).len());
        assert_eq!(counts, [0, 0, 1, 1, 0]);
    }

    #[test]
    fn nothing_overflows() {
        let mut step = step();
        for number in 0..3_000 {
            alerts(
                &mut step,
                if number % 2 == 0 { "92233720368547758" } else { "-92233720368547758" },
                number,
            );
        }
    }
}
