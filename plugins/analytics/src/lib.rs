//! Counts orders and revenue of every store, hour by hour of the orders' own time.
//!
//! Reads `store-orders`, derives `sales-by-store`:
//!
//! - With every order a running value of its hour.
//! - When the hour is over, by the event-time watermark, its `final` value: a timer of event time says so.
//! - An order that comes later still counts: it derives a `correction`, which takes the final value's place. So the last
//!   value of a store and hour is always that of all its orders.
//!
//! State: the key is the store and the hour's beginning, the value its [`Hour`] as JSON. It stays, because there is no
//! time after which a late order would not count.

use orders::{Order, SalesByStore, topics};
use serde::{Deserialize, Serialize};
use tidemill_plugin_sdk::{Event, Failure, Parent, Plugin, Record, Step, Timer, plugin};

const HOUR_MS: i64 = 3_600_000;

/// What is known of a store's hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hour {
    /// Orders so far.
    pub orders: u64,
    /// Their totals together, in cents.
    pub revenue_cents: i64,
    /// Whether its final value was told.
    pub is_closed: bool,
}

/// The plugin.
pub struct Analytics;

impl Plugin for Analytics {
    fn handle(step: &Step, event: &Event) -> Result<(), Failure> {
        let Order { store_id, total, .. } = event.json()?;
        let begins_ms = event.timestamp_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let window = format!("{store_id}/{begins_ms}");
        let mut hour: Hour = step.state().get_json(&window)?.unwrap_or_default();
        hour.orders += 1;
        hour.revenue_cents = hour
            .revenue_cents
            .checked_add(total.0)
            .ok_or_else(|| Failure::reject("more revenue than can be counted"))?;
        step.state().put_json(&window, &hour)?;
        if !hour.is_closed {
            step.set_timer(event, Timer::event_time(&window, begins_ms.saturating_add(HOUR_MS)))?;
        }
        tell(step, event, &store_id, begins_ms, &hour, hour.is_closed)
    }

    fn timer(step: &Step, timer: &Timer) -> Result<(), Failure> {
        let window = timer.name();
        let hour: Option<Hour> = step.state().get_json(&*window)?;
        let named = window.rsplit_once('/').and_then(|(store, begins)| Some((store, begins.parse().ok()?)));
        let ((store, begins_ms), mut hour) =
            named.zip(hour).ok_or_else(|| Failure::reject(format_args!("nothing is known of {window}")))?;
        hour.is_closed = true;
        step.state().put_json(&*window, &hour)?;
        tell(step, timer, store, begins_ms, &hour, false)
    }
}

fn tell(
    step: &Step,
    parent: &impl Parent,
    store: &str,
    begins_ms: i64,
    hour: &Hour,
    is_correction: bool,
) -> Result<(), Failure> {
    let sales = SalesByStore {
        store_id: store.to_owned(),
        hour_begins_ms: begins_ms,
        orders: hour.orders,
        revenue_cents: hour.revenue_cents,
        is_final: hour.is_closed,
        is_correction,
    };
    Ok(step.emit(parent, topics::SALES_BY_STORE, Record::json(&sales)?.key(store).timestamp_ms(begins_ms))?)
}

plugin!(Analytics);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tidemill_plugin_sdk::testing::{MockStep, Outcome};

    fn order(step: &mut MockStep, total: &str, at_ms: i64) -> Value {
        let order = format!(
            r#"{{ "orderId": "o", "customerId": "900", "storeId": "330", "items": [], "total": {total},
                 "discount": 0, "timestamp": "" }}"#
        );
        value(&step.event(topics::STORE_ORDERS, Record::new(order).timestamp_ms(at_ms)).run::<Analytics>())
    }

    fn value(outcome: &Outcome) -> Value {
        assert_eq!((&outcome.result, outcome.emitted.len()), (&Ok(()), 1));
        outcome.emitted[0].json()
    }

    fn sales(orders: u64, cents: i64, is_final: bool, is_correction: bool) -> Value {
        json!({ "storeId": "330", "hourBeginsMs": HOUR_MS, "orders": orders, "revenueCents": cents,
            "final": is_final, "correction": is_correction })
    }

    #[test]
    fn a_window_runs_closes_and_is_corrected() {
        let mut step = MockStep::from_manifest(include_str!("../plugin.toml"));
        assert_eq!(order(&mut step, "1.50", HOUR_MS), sales(1, 150, false, false));
        assert_eq!(order(&mut step, "2", 2 * HOUR_MS - 1), sales(2, 350, false, false));
        assert!(step.event_time_watermark_ms(2 * HOUR_MS - 1).run_timers::<Analytics>().is_none());
        let closed = step.event_time_watermark_ms(2 * HOUR_MS).run_timers::<Analytics>().unwrap();
        assert_eq!(value(&closed), sales(2, 350, true, false));
        assert_eq!(order(&mut step, "0.01", HOUR_MS + 5), sales(3, 351, true, true));
        assert!(step.run_timers::<Analytics>().is_none(), "a window closes once");
    }
}
