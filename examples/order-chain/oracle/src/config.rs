//! The numbers that the plugins were configured with.

use std::collections::BTreeMap;

/// The numbers of the chain's manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Units of a product before the first change of its stock.
    pub opening_stock: PerProduct,
    /// Below this many units a product must be ordered.
    pub threshold: PerProduct,
    /// Units of a lot: purchase orders are for whole ones.
    pub lot_size: i64,
    /// The largest amount whose payment is authorised, in cents.
    pub limit_cents: i64,
    /// Cents that earn a point.
    pub cents_per_point: i64,
    /// The balance from which each tier holds.
    pub tiers: BTreeMap<String, i64>,
    /// Above this many units a product is offered.
    pub overstock: PerProduct,
    /// What the customer saves then.
    pub discount_percent: i64,
    /// What is unusual.
    pub fraud: FraudRules,
}

/// What is unusual of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FraudRules {
    /// How far back orders are recent.
    pub window_minutes: i64,
    /// More recent ones than these are too many.
    pub orders_max: i64,
    /// More standard deviations above the mean than these are too much.
    pub deviations: i64,
    /// How many earlier orders make a habit.
    pub orders_min: i64,
}

/// A number that all products have in common, but for exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerProduct {
    /// The number.
    pub default: i64,
    /// The exceptions, by product.
    pub exceptions: BTreeMap<String, i64>,
}

impl PerProduct {
    pub(crate) fn of(&self, product: &str) -> i64 {
        self.exceptions.get(product).copied().unwrap_or(self.default)
    }
}

impl Config {
    /// Reads the numbers from the plugins' configurations, as the guests see them: the key
    /// `inventory.threshold.default` is the value `threshold.default` of the plugin `inventory`. Other keys are
    /// passed over.
    ///
    /// # Errors
    /// The key that is missing or has no whole number.
    pub fn from_values(values: &BTreeMap<String, String>) -> Result<Config, String> {
        let number = |key: &str| {
            let text = values.get(key).ok_or_else(|| format!("{key} is missing"))?;
            text.parse::<i64>().map_err(|error| format!("{key} is {text:?}: {error}"))
        };
        let table = |prefix: &str| {
            let keys = values.keys().filter_map(|key| Some((key, key.strip_prefix(prefix)?)));
            keys.map(|(key, name)| Ok((name.to_owned(), number(key)?)))
                .collect::<Result<BTreeMap<_, _>, String>>()
        };
        let per_product = |name: &str| {
            let default = number(&format!("{name}.default"))?;
            Ok::<_, String>(PerProduct { default, exceptions: table(&format!("{name}.exceptions."))? })
        };
        Ok(Config {
            opening_stock: per_product("inventory.opening-stock")?,
            threshold: per_product("inventory.threshold")?,
            lot_size: number("procurement.lot-size")?,
            limit_cents: number("payment.limit-cents")?,
            cents_per_point: number("loyalty.cents-per-point")?,
            tiers: table("loyalty.tiers.")?,
            overstock: per_product("promotion.overstock")?,
            discount_percent: number("promotion.discount-percent")?,
            fraud: FraudRules {
                window_minutes: number("fraud.window-minutes")?,
                orders_max: number("fraud.orders-max")?,
                deviations: number("fraud.deviations")?,
                orders_min: number("fraud.orders-min")?,
            },
        })
    }

    /// The tier of a balance: the last that begins at or below it.
    pub(crate) fn tier(&self, balance: i64) -> &str {
        let mut tiers: Vec<(i64, &str)> =
            self.tiers.iter().map(|(name, from)| (*from, name.as_str())).collect();
        tiers.sort_unstable();
        let reached = tiers.partition_point(|(from, _)| *from <= balance);
        reached.checked_sub(1).map_or("", |last| tiers[last].1)
    }
}
