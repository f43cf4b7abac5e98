//! A small history that is right passes, and every way of spoiling any one of its records is found.

use std::collections::BTreeMap;

use order_chain_oracle::{Config, FraudRules, PerProduct, Rec, Violation, check};
use serde_json::{Value, json};

type Topics = BTreeMap<String, Vec<Rec>>;
type Parent = (String, u32, u64);

/// Two customers, two products, four orders: one declined, one that lifts a tier, one soon after another, one far above what
/// is usual; two shortages, a sale while a delivery is under way, an offer that ends.
const ORDERS: &str = concat!(
    r#"{"orderId":"o1","customerId":"ann","storeId":"s","items":[{"productId":"milk","name":"MILK","department":"DAIRY","quantity":2,"price":0.5},{"productId":"bread","name":null,"department":null,"quantity":1,"price":1.255}],"total":2.26,"discount":0.1,"timestamp":"2017-01-01T11:00:00Z"}"#,
    "\n",
    r#"{"orderId":"o2","customerId":"bob","storeId":"s","items":[{"productId":"milk","name":"MILK","department":"DAIRY","quantity":3,"price":0.5}],"total":500.0,"discount":0.0,"timestamp":"2017-01-01T11:01:00Z"}"#,
    "\n",
    r#"{"orderId":"o3","customerId":"ann","storeId":"s","items":[{"productId":"bread","name":null,"department":null,"quantity":1,"price":1.0},{"productId":"bread","name":null,"department":null,"quantity":0,"price":0}],"total":1.0,"discount":0.0,"timestamp":"2017-01-01T11:02:00Z"}"#,
    "\n",
    r#"{"orderId":"o4","customerId":"ann","storeId":"s","items":[{"productId":"bread","name":null,"department":null,"quantity":1,"price":0}],"total":50,"discount":0.0,"timestamp":"2017-01-01T12:00:00Z"}"#,
    "\n",
);

fn config() -> Config {
    Config {
        opening_stock: PerProduct { default: 3, exceptions: BTreeMap::from([("bread".into(), 2)]) },
        threshold: PerProduct { default: 2, exceptions: BTreeMap::from([("bread".into(), 1)]) },
        lot_size: 4,
        limit_cents: 10_000,
        cents_per_point: 100,
        tiers: BTreeMap::from([("bronze".into(), 0), ("silver".into(), 3)]),
        overstock: PerProduct { default: 2, exceptions: BTreeMap::from([("bread".into(), 3)]) },
        discount_percent: 20,
        fraud: FraudRules { window_minutes: 5, orders_max: 1, deviations: 2, orders_min: 1 },
    }
}

/// Customers and products have a partition each; the store shares one.
fn partition(key: &str) -> u32 {
    u32::from(["bob", "bread"].contains(&key))
}

#[derive(Default)]
struct Builder(Topics);

impl Builder {
    fn add(&mut self, topic: &str, parent: Option<&Parent>, key: &str, value: Value) -> Parent {
        let (records, partition) = (self.0.entry(topic.into()).or_default(), partition(key));
        let offset = records.iter().filter(|record| record.partition == partition).count() as u64;
        let (key, value) = (Some(key.into()), Some(value.to_string().into_bytes()));
        records.push(Rec { partition, offset, key, value, parent: parent.cloned() });
        (topic.into(), partition, offset)
    }

    fn order(&mut self, line: &str) -> Parent {
        let order: Value = serde_json::from_str(line).unwrap();
        let key = order["customerId"].as_str().unwrap().to_owned();
        self.add("customer-orders", None, &key, order)
    }

    fn update(&mut self, parent: &Parent, product: &str, stock: [i64; 3], cause: Value) -> Parent {
        let [previous, current, threshold] = stock;
        let value = json!({ "productId": product, "previousStock": previous, "currentStock": current,
            "threshold": threshold, "lowStockAlert": current < threshold, "cause": cause });
        self.add("inventory-updates", Some(parent), product, value)
    }

    fn supply(&mut self, parent: &Parent, product: &str, stock: [i64; 2], quantity: i64) -> (Parent, Value) {
        let id = format!("{product}-1");
        let [current, threshold] = stock;
        let order = json!({ "purchaseOrderId": id, "productId": product, "quantity": quantity,
            "missing": threshold - current, "currentStock": current, "onOrder": 0, "threshold": threshold });
        let placed = self.add("purchase-orders", Some(parent), product, order);
        let receipt = json!({ "purchaseOrderId": id, "productId": product, "quantity": quantity });
        let cause = json!({ "kind": "receipt", "purchaseOrderId": id });
        (self.add("stock-receipts", Some(&placed), product, receipt), cause)
    }
}

fn history() -> Topics {
    let mut h = Builder::default();
    let orders: Vec<_> = ORDERS.lines().map(|line| h.order(line)).collect();
    let [o1, o2, o3, o4] = orders.as_slice() else { panic!("four orders") };
    let orders = [(o1, "o1", "ann"), (o2, "o2", "bob"), (o3, "o3", "ann"), (o4, "o4", "ann")];

    // The products.
    let line = |order: &str,
                customer: &str,
                line: u32,
                product: &str,
                numbers: (i64, Value, i64),
                time: &str| {
        let milk = product == "milk";
        let (quantity, price, cents) = numbers;
        json!({ "orderId": order, "customerId": customer, "storeId": "s", "line": line, "productId": product,
            "name": milk.then_some("MILK"), "department": milk.then_some("DAIRY"), "quantity": quantity,
            "price": price, "amountCents": cents, "timestamp": time })
    };
    let [t1, t2, t3] = ["2017-01-01T11:00:00Z", "2017-01-01T11:01:00Z", "2017-01-01T11:02:00Z"];
    let t4 = "2017-01-01T12:00:00Z";
    let lines = [
        (o1, "milk", line("o1", "ann", 1, "milk", (2, json!(0.5), 100), t1)),
        (o1, "bread", line("o1", "ann", 2, "bread", (1, json!(1.255), 126), t1)),
        (o2, "milk", line("o2", "bob", 1, "milk", (3, json!(0.5), 150), t2)),
        (o3, "bread", line("o3", "ann", 1, "bread", (1, json!(1.0), 100), t3)),
        (o3, "bread", line("o3", "ann", 2, "bread", (0, json!(0), 0), t3)),
        (o4, "bread", line("o4", "ann", 1, "bread", (1, json!(0), 0), t4)),
    ];
    let lines = lines.map(|(parent, product, value)| h.add("order-lines", Some(parent), product, value));
    let sale = |order: &str, line: u32| json!({ "kind": "sale", "orderId": order, "line": line });

    let low = h.update(&lines[0], "milk", [3, 1, 2], sale("o1", 1));
    let (receipt, received) = h.supply(&low, "milk", [1, 2], 4);
    let short = h.update(&lines[2], "milk", [1, -2, 2], sale("o2", 1));
    let milk = [low, short, h.update(&receipt, "milk", [-2, 2, 2], received)];

    let first = h.update(&lines[1], "bread", [2, 1, 1], sale("o1", 2));
    let low = h.update(&lines[3], "bread", [1, 0, 1], sale("o3", 1));
    let (receipt, received) = h.supply(&low, "bread", [0, 1], 4);
    let still = h.update(&lines[4], "bread", [0, 0, 1], sale("o3", 2));
    let refilled = h.update(&receipt, "bread", [0, 4, 1], received);
    let fewer = h.update(&lines[5], "bread", [4, 3, 1], sale("o4", 1));
    let bread = [first, low, still, refilled, fewer];

    // What the shop shows of them.
    let available = |product: &str, is: bool| json!({ "productId": product, "available": is });
    let offer = |product: &str, is: bool, stock: i64, overstock: i64| {
        json!({ "productId": product, "active": is,
        "discountPercent": 20, "currentStock": stock, "overstock": overstock })
    };
    h.add("product-availability", Some(&milk[0]), "milk", available("milk", true));
    h.add("product-availability", Some(&milk[1]), "milk", available("milk", false));
    h.add("product-availability", Some(&milk[2]), "milk", available("milk", true));
    h.add("product-availability", Some(&bread[0]), "bread", available("bread", true));
    h.add("product-availability", Some(&bread[1]), "bread", available("bread", false));
    h.add("product-availability", Some(&bread[3]), "bread", available("bread", true));
    h.add("promotions", Some(&bread[3]), "bread", offer("bread", true, 4, 3));
    h.add("promotions", Some(&bread[4]), "bread", offer("bread", false, 3, 3));

    // The store: an hour that runs, closes, and is corrected; and the next one, which only runs and closes.
    let at_store: Vec<_> = [o1, o2, o3, o4]
        .into_iter()
        .zip(ORDERS.lines())
        .map(|(order, line)| h.add("store-orders", Some(order), "s", serde_json::from_str(line).unwrap()))
        .collect();
    let sales = |orders: u64, cents: i64, is_final: bool, is_correction: bool| {
        let begins_ms = if cents == 5_000 { 1_483_272_000_000_u64 } else { 1_483_268_400_000 };
        json!({ "storeId": "s",
        "hourBeginsMs": begins_ms, "orders": orders, "revenueCents": cents, "final": is_final,
        "correction": is_correction })
    };
    h.add("sales-by-store", Some(&at_store[0]), "s", sales(1, 226, false, false));
    h.add("sales-by-store", Some(&at_store[1]), "s", sales(2, 50_226, false, false));
    h.add("sales-by-store", Some(&at_store[1]), "s", sales(2, 50_226, true, false));
    h.add("sales-by-store", Some(&at_store[2]), "s", sales(3, 50_326, true, true));
    h.add("sales-by-store", Some(&at_store[3]), "s", sales(1, 5_000, false, false));
    h.add("sales-by-store", Some(&at_store[3]), "s", sales(1, 5_000, true, false));

    // The customers.
    let alert = json!({ "kind": "velocity", "orderId": "o3", "customerId": "ann", "amountCents": 100,
        "recentOrders": 2, "knownOrders": 1 });
    h.add("fraud-alerts", Some(o3), "ann", alert);
    let alert = json!({ "kind": "amount", "orderId": "o4", "customerId": "ann", "amountCents": 5_000,
        "recentOrders": 1, "knownOrders": 2 });
    h.add("fraud-alerts", Some(o4), "ann", alert);
    let told = |kind: &str, customer: &str, order: &str, subject: &str| json!({ "kind": kind, "customerId": customer, "orderId": order, "subject": subject });
    let totals = [226, 50_000, 100, 5_000];
    let points = [
        (2, 2, "bronze", "bronze"),
        (500, 500, "bronze", "silver"),
        (1, 3, "bronze", "silver"),
        (50, 53, "silver", "silver"),
    ];
    let shown = ["2.26", "500.00", "1.00", "50.00"];
    let units = [(2, 3), (1, 3), (2, 1), (1, 1)];
    for (number, (at, order, customer)) in orders.into_iter().enumerate() {
        let subject = format!("We received your order {order} over {}", shown[number]);
        h.add("customer-notifications", Some(at), customer, told("confirmation", customer, order, &subject));
        let declined = order == "o2";
        let payment = json!({ "orderId": order, "customerId": customer, "amountCents": totals[number],
            "status": if declined { "declined" } else { "authorised" },
            "reason": declined.then_some("more than 100.00") });
        let paid = h.add("payment-processing", Some(at), customer, payment);
        if !declined {
            let (lines, units) = units[number];
            let shipment = json!({ "orderId": order, "customerId": customer, "storeId": "s", "lines": lines,
                "units": units, "amountCents": totals[number] });
            let shipped = h.add("shipments", Some(&paid), customer, shipment);
            let subject = format!("Your order {order} is on its way");
            h.add(
                "customer-notifications",
                Some(&shipped),
                customer,
                told("shipped", customer, order, &subject),
            );
        }
        let (earned, balance, previous, tier) = points[number];
        let value = json!({ "orderId": order, "customerId": customer, "points": earned, "balance": balance,
            "previousTier": previous, "tier": tier });
        let earned = h.add("loyalty-points", Some(at), customer, value);
        if previous != tier {
            let subject = format!("With {balance} points you are now {tier}");
            h.add("customer-notifications", Some(&earned), customer, told("tier", customer, order, &subject));
        }
    }
    h.0
}

fn violations(topics: Topics) -> Vec<Violation> {
    check(ORDERS.as_bytes(), &config(), topics)
}

/// Spoils the history once for each record of each topic, and expects to hear of it every time.
fn every_record(what: &str, spoil: impl Fn(&mut Vec<Rec>, usize) -> bool) -> usize {
    let right = history();
    let mut spoilt = 0;
    for (name, records) in &right {
        for index in 0..records.len() {
            let mut wrong = right.clone();
            if spoil(wrong.get_mut(name).unwrap(), index) {
                spoilt += 1;
                assert_ne!(violations(wrong), [], "{name}: record {index} {what}, and nobody saw it");
            }
        }
    }
    spoilt
}

#[test]
fn a_right_history_passes() {
    assert_eq!(violations(history()), []);
}

#[test]
fn the_order_in_which_records_are_handed_over_does_not_matter() {
    let mut topics = history();
    topics.values_mut().for_each(|records| records.reverse());
    assert_eq!(violations(topics), []);
}

#[test]
fn an_empty_history_of_no_orders_passes_but_not_one_of_some() {
    assert_eq!(check([].as_slice(), &config(), Topics::new()), []);
    assert_eq!(violations(Topics::new()).iter().filter(|v| v.what.contains("is not there")).count(), 4);
}

#[test]
fn a_removed_record_is_missed() {
    let removed = every_record("was removed", |records, index| {
        records.remove(index);
        true
    });
    assert_eq!(removed, history().values().map(Vec::len).sum::<usize>());
}

#[test]
fn a_removed_record_is_missed_even_when_offsets_close_up() {
    every_record("was removed", |records, index| {
        let gone = records.remove(index);
        let behind = records.iter_mut().filter(|r| r.partition == gone.partition && r.offset > gone.offset);
        behind.for_each(|record| record.offset -= 1);
        true
    });
}

#[test]
fn a_doubled_record_is_noticed() {
    every_record("was doubled", |records, index| {
        let mut copy = records[index].clone();
        copy.offset = 1_000;
        records.push(copy);
        true
    });
}

#[test]
fn an_altered_field_is_noticed_whichever_it_is() {
    let altered = every_record("was altered", |records, index| {
        let value: Value = serde_json::from_slice(records[index].value.as_deref().unwrap()).unwrap();
        // Every field of the record once, each in a history of its own.
        for field in value.as_object().unwrap().keys() {
            let mut wrong = value.clone();
            wrong[field] = match &value[field] {
                Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
                Value::String(text) => json!(format!("{text}x")),
                Value::Bool(truth) => json!(!truth),
                _ => json!("something"),
            };
            let mut topics = history();
            let name = topics.iter().find(|(_, all)| **all == *records).unwrap().0.clone();
            topics.get_mut(&name).unwrap()[index].value = Some(wrong.to_string().into_bytes());
            assert_ne!(violations(topics), [], "{name}: {field} of record {index} was altered");
        }
        records[index].value = None;
        true
    });
    assert!(altered > 30);
}

#[test]
fn an_altered_key_or_parent_is_noticed() {
    every_record("got another key", |records, index| {
        records[index].key = Some(b"nobody".to_vec());
        true
    });
    every_record("lost its parent", |records, index| records[index].parent.take().is_some());
    every_record("got another parent", |records, index| match &mut records[index].parent {
        Some((_, _, offset)) => {
            *offset = 77;
            true
        }
        None => false,
    });
}

#[test]
fn a_record_in_another_partition_is_noticed() {
    every_record("was moved", |records, index| {
        records[index].partition = 3;
        records[index].offset = 500;
        true
    });
}

#[test]
fn records_of_one_source_that_changed_places_are_noticed() {
    let source = |record: &Rec| record.parent.clone().map(|(topic, partition, _)| (topic, partition));
    let swapped = every_record("changed places with another", |records, index| {
        let one = records[index].clone();
        let other = records.iter().position(|other| {
            other.partition == one.partition && other.offset > one.offset && source(other) == source(&one)
        });
        let Some(other) = other else { return false };
        (records[index].offset, records[other].offset) = (records[other].offset, one.offset);
        true
    });
    assert!(swapped >= 10, "{swapped}");
}

#[test]
fn values_that_changed_places_are_noticed() {
    every_record("changed its value with the next", |records, index| {
        let Some(next) = records.get(index + 1).cloned() else { return false };
        records[index + 1].value = records[index].value.clone();
        records[index].value = next.value;
        true
    });
}

#[test]
fn a_shortage_that_stays_open_is_noticed() {
    let mut topics = history();
    for topic in ["purchase-orders", "stock-receipts"] {
        topics.get_mut(topic).unwrap().retain(|record| record.key.as_deref() != Some(b"milk"));
    }
    topics.get_mut("inventory-updates").unwrap().retain(|record| {
        let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
        !value.contains("milk-1")
    });
    let found = violations(topics);
    assert!(found.iter().any(|violation| violation.what.contains("is short at the end")), "{found:?}");
}

#[test]
fn a_delivery_that_is_still_under_way_is_noticed() {
    let mut topics = history();
    topics.get_mut("inventory-updates").unwrap().retain(|record| {
        let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
        !value.contains("milk-1")
    });
    let found = violations(topics);
    assert!(found.iter().any(|violation| violation.what.contains("milk-1 never came")), "{found:?}");
}

#[test]
fn a_history_that_is_wrong_throughout_is_told_within_bounds() {
    let nonsense = |offset| Rec { partition: 0, offset, key: None, value: None, parent: None };
    let topics = BTreeMap::from([("shipments".to_owned(), (0..5_000).map(nonsense).collect())]);
    let found = violations(topics);
    assert_eq!(found.len(), 1_001);
    assert!(found[1_000].to_string().contains("more violations"), "{}", found[1_000]);
}

#[test]
fn the_configuration_is_read_from_what_the_guests_are_told() {
    let values = [
        ("inventory.opening-stock.default", "3"),
        ("inventory.opening-stock.exceptions.bread", "2"),
        ("inventory.threshold.default", "2"),
        ("inventory.threshold.exceptions.bread", "1"),
        ("procurement.lot-size", "4"),
        ("payment.limit-cents", "10000"),
        ("loyalty.cents-per-point", "100"),
        ("loyalty.tiers.bronze", "0"),
        ("loyalty.tiers.silver", "3"),
        ("promotion.overstock.default", "2"),
        ("promotion.overstock.exceptions.bread", "3"),
        ("promotion.discount-percent", "20"),
        ("fraud.window-minutes", "5"),
        ("fraud.orders-max", "1"),
        ("fraud.deviations", "2"),
        ("fraud.orders-min", "1"),
        ("email.sender", "nobody"),
    ];
    let values: BTreeMap<_, _> = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(Config::from_values(&values), Ok(config()));
    let mut missing = values.clone();
    missing.remove("procurement.lot-size");
    assert_eq!(Config::from_values(&missing), Err("procurement.lot-size is missing".into()));
}

#[test]
fn an_hour_that_is_never_closed_is_noticed() {
    let mut topics = history();
    let last = topics.get_mut("sales-by-store").unwrap().pop().unwrap();
    assert!(String::from_utf8(last.value.unwrap()).unwrap().contains(r#""final":true"#));
    let found = violations(topics);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("never closed"), "{found:?}");
}

#[test]
fn a_hole_in_the_offsets_is_noticed() {
    let mut topics = history();
    // Nothing derives from it, and nothing lies behind it.
    topics.get_mut("fraud-alerts").unwrap().last_mut().unwrap().offset += 1;
    let found = violations(topics);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("lies where offset 1 should be"), "{found:?}");
}
