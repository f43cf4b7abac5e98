//! What the shop shows of a product: whether it can be bought, and whether it is offered.

use serde_json::json;

use super::stock::Seen;
use crate::config::Config;
use crate::history::{Expected, History, INVENTORY_UPDATES, PRODUCT_AVAILABILITY, PROMOTIONS};
use crate::violation::Violations;

/// Follows a product's updates: only those that change an answer are told.
pub(super) fn walk(
    product: &str,
    seen: &[Seen<'_>],
    config: &Config,
    history: &History<'_>,
    violations: &mut Violations,
) {
    let overstock = config.overstock.of(product);
    let (mut was_available, mut was_offered) = (None, false);
    for update in seen {
        let at = (INVENTORY_UPDATES, update.record.partition, update.record.offset);
        let of = |value| Expected { key: product.to_owned(), value };
        let (available, offered) = (update.current > 0, update.current > overstock);
        let answer = of(json!({ "productId": product, "available": available }));
        let answers = if was_available == Some(available) { vec![] } else { vec![answer] };
        history.compare(PRODUCT_AVAILABILITY, &[at], &answers, violations);
        let offer = of(json!({
            "productId": product, "active": offered, "discountPercent": config.discount_percent,
            "currentStock": update.current, "overstock": overstock,
        }));
        let offers = if was_offered == offered { vec![] } else { vec![offer] };
        history.compare(PROMOTIONS, &[at], &offers, violations);
        (was_available, was_offered) = (Some(available), offered);
    }
}
