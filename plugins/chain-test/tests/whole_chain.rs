//! Real orders through the whole chain, in several interleavings; the oracle finds nothing wrong.
//!
//! `ORDERS=file.jsonl cargo test -p chain-test --release` runs another file of orders.
#![allow(clippy::disallowed_methods, reason = "a test reads its input itself")]

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use chain_test::Mill;
use order_chain_oracle::check;
use orders::{Order, topics};

fn orders() -> String {
    if let Some(file) = std::env::var_os("ORDERS") {
        return fs::read_to_string(file).unwrap();
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/order-chain/orders-2k.jsonl.zst");
    String::from_utf8(zstd::decode_all(fs::File::open(sample).unwrap()).unwrap()).unwrap()
}

fn milliseconds(timestamp: &str) -> i64 {
    let since = humantime::parse_rfc3339(timestamp).unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_millis() as i64
}

/// Produces all orders while the chain is at work, and lets it come to rest.
fn run(file: &str, seed: u64) -> Mill {
    let mut mill = Mill::new(seed);
    for line in file.lines() {
        let order: Order = serde_json::from_str(line).unwrap();
        mill.produce(&order.customer_id, line, milliseconds(&order.timestamp));
        for _ in 0..20 {
            mill.turn();
        }
    }
    while mill.turn() {}
    mill
}

#[test]
fn the_oracle_agrees_with_the_plugins_in_every_interleaving() {
    let file = orders();
    let count = file.lines().count();
    for seed in [1, 2, 3] {
        let topics = run(&file, seed).topics();
        let violations = check(file.as_bytes(), &Mill::config(), topics.clone());
        let counts: Vec<_> = topics.iter().map(|(name, records)| (name.as_str(), records.len())).collect();
        println!("seed {seed}: {counts:?}");
        assert_eq!(violations, [], "seed {seed}");

        let records = |topic: &str| topics.get(topic).map_or(0, Vec::len);
        assert_eq!(records(topics::CUSTOMER_ORDERS), count);
        assert!(records(topics::PURCHASE_ORDERS) > 100, "the cycle was hardly used");
        let shipped = records(topics::SHIPMENTS);
        assert!(
            shipped < count && shipped > count / 2,
            "{shipped} of {count}: nothing was declined, or too much"
        );
        let notified = records(topics::CUSTOMER_NOTIFICATIONS);
        assert!(notified > count + shipped, "no customer rose to a higher tier");

        // Each rule finds something in these orders: what never happens is not checked either.
        let with = |topic: &str, text: &str| {
            let values = topics.get(topic).into_iter().flatten().filter_map(|record| record.value.as_deref());
            values.filter(|value| String::from_utf8_lossy(value).contains(text)).count()
        };
        let seen = [
            (topics::FRAUD_ALERTS, r#""kind":"velocity""#),
            (topics::FRAUD_ALERTS, r#""kind":"amount""#),
            (topics::PRODUCT_AVAILABILITY, r#""available":true"#),
            (topics::PRODUCT_AVAILABILITY, r#""available":false"#),
            (topics::PROMOTIONS, r#""active":true"#),
            (topics::PROMOTIONS, r#""active":false"#),
            (topics::SALES_BY_STORE, r#""final":false"#),
            (topics::SALES_BY_STORE, r#""final":true,"correction":false"#),
            (topics::SALES_BY_STORE, r#""correction":true"#),
        ];
        for (topic, text) in seen {
            let times = with(topic, text);
            println!("{topic}: {text} {times} times");
            assert!(times >= 5, "{topic}: {text} only {times} times");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let file: String = orders().lines().take(200).map(|line| format!("{line}\n")).collect();
    assert_eq!(run(&file, 7).topics(), run(&file, 7).topics());
    assert_ne!(run(&file, 7).topics(), run(&file, 8).topics(), "another seed is another interleaving");
}

#[test]
fn the_oracle_would_see_a_record_that_is_missing() {
    let file: String = orders().lines().take(200).map(|line| format!("{line}\n")).collect();
    let whole = run(&file, 9).topics();
    for topic in whole.keys() {
        let mut spoilt = whole.clone();
        let records = spoilt.get_mut(topic).unwrap();
        records.swap_remove(records.len() / 2);
        assert_ne!(check(file.as_bytes(), &Mill::config(), spoilt), [], "{topic}");
    }
}
